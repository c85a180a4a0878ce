// tell.c - texts without malloc and stdio. Contract: tracker/tell.h.        SPDX-License-Identifier: MIT
#include "tracker/tell.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/platform.h"
#include "paths/callpath.h"
#include "paths/modules.h"
#include "paths/sites.h"
#include "paths/thread.h"
#include "registry/names.h"

enum { ROOM_BYTES = 8192, FRAMES_MAX = 16, STDERR = 2 };

static struct {
    flk_lock lock;  // guards all fields
    uint32_t told;
    size_t used;
    char room[ROOM_BYTES];
} telling = {.lock = FLK_LOCK_INIT(FLK_RANK_RECENT)};

// --- a line ----------------------------------------------------------------
static void add_byte(char byte) {
    if (telling.used < ROOM_BYTES - 1)
        telling.room[telling.used++] = byte;
}

static void add(const char *text) {
    FLK_ASSERT(text != NULL);
    while (*text)
        add_byte(*text++);
}

static void add_hex(uint64_t number) {
    int shift = 60;
    while (shift > 0 && !(number >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        add_byte("0123456789abcdef"[number >> shift & 15]);
}

static void add_number(uint64_t number) {
    char digits[20];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count > 0)
        add_byte(digits[--count]);
}

// Names come from files: what is not plain ASCII is written as an escape, so
// that no sequence reaches a terminal.
static void add_name(const char *name) {
    FLK_ASSERT(name != NULL);
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        if (c >= ' ' && c < 0x7f) {
            add_byte(*name);
        } else {
            add("\\x");
            add_byte("0123456789abcdef"[c >> 4]);
            add_byte("0123456789abcdef"[c & 15]);
        }
    }
}

// --- a call path -------------------------------------------------------------
static void add_native(uint32_t site, const flk_native_place *place) {
    const char *slash = strrchr(place->path, '/');
    const char *function = "";
#ifdef FLK_HAS_ELF
    function = flk_modules_function(site);
#else
    (void)site;
#endif
    add("    ");
    add_name(*place->path ? (slash ? slash + 1 : place->path) : "(no module)");
    add("  in ");
    add_name(*function ? function : "?\?");
    add("  +0x");
    add_hex(place->offset);
    add("\n");
}

static void add_python(const flk_site_info *place) {
    add("    ");
    add_name(place->filename);
    if (place->line > 0) {
        add(":");
        add_number((uint64_t)place->line);
    }
    add("  in ");
    add_name(place->function);
    add("\n");
}

static void add_path(const char *title, uint32_t path) {
    uint32_t sites[FRAMES_MAX];
    if (path == FLK_PATH_EMPTY || path == FLK_PATH_NONE)
        return;
    size_t count = flk_callpath_sites(path, sites, FRAMES_MAX);
    add(title);
    for (size_t i = 0; i < count && i < FRAMES_MAX; i++) {
        flk_native_place native;
        flk_site_info python;
        if (flk_modules_describe(sites[i], &native))
            add_native(sites[i], &native);
        else if (flk_sites_describe(sites[i], &python))
            add_python(&python);
    }
    if (count > FRAMES_MAX)
        add("    ...\n");
}

// --- a misuse --------------------------------------------------------------
static void add_verdict(const flk_misuse *m) {
    bool is_double = m->verdict == FLK_DOUBLE_FREE;
    add("ffi_leak_tracker: ");
    add(m->suspected ? "suspected " : "");
    add(is_double                           ? "double free of 0x"
        : m->verdict == FLK_INTERIOR_FREE   ? "invalid free of 0x"
        : m->verdict == FLK_MISMATCHED_FREE ? "mismatched free of 0x"
                                            : "misuse of memory at 0x");
    add_hex(m->address ? m->address : m->block.address);
    if (m->suspected)
        add(is_double ? ": it was freed before, and not seen to be allocated "
                        "since; the call goes on"
                      : ": it lies inside a block; the call goes on");
    else
        add(m->passed ? "; the call goes on" : "; nothing is freed");
    add("\n  the block: ");
}

static void add_block(const flk_misuse *m) {
    FLK_ASSERT(m->block.type != 0);
    add_name(flk_names_at(m->block.type)->type);
    add(", ");
    add_number(m->block.size_bytes);
    add(" bytes");
    if (m->address && m->address != m->block.address) {
        add(" at 0x");
        add_hex(m->block.address);
        add("; the address is ");
        add_number(m->address - m->block.address);
        add(" bytes in");
    }
    add("\n");
}

static void fill(const flk_misuse *m) {
    telling.used = 0;
    add_verdict(m);
    add_block(m);
    add_path("  this call at:\n", m->here_path);
    add_path("  freed at first by:\n", m->free_path);
    add_path("  allocated at:\n", m->block.path);
    if (telling.told == FLK_MISUSE_TEXTS_MAX)
        add("ffi_leak_tracker: further misuses are counted, not written\n");
    FLK_ASSERT(telling.used < ROOM_BYTES);
}

static void write_all(void) {
    for (size_t done = 0; done < telling.used;) {
        ssize_t wrote = write(STDERR, telling.room + done, telling.used - done);
        if (wrote > 0)
            done += (size_t)wrote;
        else if (wrote == 0 || errno != EINTR)
            break;
    }
}

void flk_tell_misuse(const flk_misuse *misuse) {
    FLK_ASSERT(misuse != NULL && misuse->verdict < 0);
    int saved = errno;
    flk_thread_lock(&telling.lock);
    if (telling.told < FLK_MISUSE_TEXTS_MAX) {
        telling.told++;
        fill(misuse);
        write_all();
    }
    flk_thread_unlock(&telling.lock);
    errno = saved;
}

void flk_tell_again(void) {
    flk_thread_lock(&telling.lock);
    telling.told = 0;
    flk_thread_unlock(&telling.lock);
}

void flk_tell_lock_all(void) { flk_thread_lock(&telling.lock); }
void flk_tell_unlock_all(void) { flk_thread_unlock(&telling.lock); }

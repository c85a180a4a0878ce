// modules.c - an append-only store. Contract: paths/modules.h.             SPDX-License-Identifier: MIT
#include "paths/modules.h"

#ifdef FLK_HAS_ELF
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/hash.h"
#include "base/store.h"
#include "elf/cfi.h"
#include "paths/sites.h"
#include "paths/thread.h"

// This much of a table of functions distinguishes two builds of a library: the
// number of functions and the addresses of the first 512.
enum { FINGERPRINT_BYTES = 4096, PATH_BYTES = FLK_STORE_TEXT_MAX };
// Code outside all objects is in one module for each 2 GiB of addresses.
#define NOWHERE_MASK (~UINT64_C(0x7fffffff))

static _Atomic(char *) chunks[FLK_MODULES_MAX / FLK_STORE_CHUNK];

static struct {
    flk_lock lock;  // guards everything that is neither constant nor atomic
    flk_store entries;
    flk_store_texts texts;
    char program[PATH_BYTES];   // set once, before the first event
    char absolute[PATH_BYTES];  // room for a path
} modules = {.lock = FLK_LOCK_INIT(FLK_RANK_MODULES),
             .entries = {sizeof(flk_module), FLK_MODULES_MAX, chunks, 0}};

const flk_module *flk_modules_get(uint32_t module) {
    return flk_store_at(&modules.entries, module);
}

uint32_t flk_modules_count(void) { return flk_store_count(&modules.entries); }

static flk_thread *lock_modules(void) {
    flk_thread *guard = flk_thread_guard();
    flk_lock_take(&modules.lock);
    return guard;
}

static void unlock_modules(flk_thread *guard) {
    flk_lock_release(&modules.lock);
    flk_thread_unguard(guard);
}

void flk_modules_start(void) {
    int saved = errno;
    flk_thread *guard = lock_modules();
    if (!modules.program[0]) {
        ssize_t length = readlink("/proc/self/exe", modules.program,
                                  sizeof modules.program - 1);
        modules.program[length > 0 ? length : 0] = '\0';
    }
    unlock_modules(guard);
    errno = saved;
}

// --- properties of a loaded object --------------------------------------
// FNV-1a; ffi_leak_tracker/_seam/symbols.py computes the same from the file.
static uint64_t fingerprint_of(const flk_loaded *loaded) {
    FLK_ASSERT(loaded->begin <= loaded->header || !loaded->header);
    uint64_t bytes =
        loaded->header ? flk_cfi_header_bytes(loaded->header, loaded->end) : 0;
    if (bytes > FINGERPRINT_BYTES)
        bytes = FINGERPRINT_BYTES;
    return bytes ? flk_hash_bytes((const void *)loaded->header, bytes,
                                  FLK_HASH_START)
                 : 0;
}

static bool defines_one_of(const flk_elf *elf, const char *const *names) {
    FLK_ASSERT(elf->symbols && names);
    while (*names && !flk_elf_defines(elf, *names))
        names++;
    return *names != NULL;
}

static uint32_t flags_of(const flk_loaded *loaded) {
    FLK_ASSERT(loaded->begin < loaded->end);
    static const char *const edges[] = {
        "PyEval_EvalCode", "PyInit__cffi_backend", "pypy_execute_source", NULL};
    uintptr_t here = (uintptr_t)flk_modules_at;
    flk_elf elf;
    if (here >= loaded->begin && here < loaded->end)
        return FLK_MODULE_OWN;
    return flk_loaded_open(loaded, &elf) && defines_one_of(&elf, edges)
               ? FLK_MODULE_EDGE
               : 0;
}

// A relative path is made absolute, because the working directory may change.
// The caller holds the lock.
static const char *path_of(const flk_loaded *loaded) {
    FLK_ASSERT(loaded->path != NULL);
    if (!loaded->path[0])
        return modules.program;
    if (loaded->path[0] == '/' || !strchr(loaded->path, '/'))
        return loaded->path;
    char *room = modules.absolute;
    int saved = errno;
    size_t length = getcwd(room, PATH_BYTES) ? strlen(room) : 0;
    errno = saved;
    size_t more = strlen(loaded->path);
    if (length == 0 || length + 1 + more >= PATH_BYTES)
        return loaded->path;
    room[length] = '/';
    memcpy(room + length + 1, loaded->path, more + 1);
    return room;
}

// --- entries -----------------------------------------------------------
// A module is known by its path and fingerprint, or else by its address.
static bool is_same(const flk_module *one, const flk_module *other) {
    bool is_known = one->fingerprint && one->path[0];
    return one->fingerprint == other->fingerprint &&
           (is_known || one->base == other->base) &&
           strcmp(one->path, other->path) == 0;
}

// The newest modules are found first. There are as many modules as libraries
// that were found on a stack.
static uint32_t find(const flk_module *wanted) {
    FLK_ASSERT(wanted->path != NULL);
    for (uint32_t i = flk_modules_count(); i > 0; i--) {
        const flk_module *one = flk_modules_get(i);
        if (is_same(one, wanted))
            return i;
    }
    return 0;
}

static uint32_t find_or_add(flk_module *wanted, const flk_loaded *loaded) {
    FLK_ASSERT(!wanted->code);
    flk_thread *guard = lock_modules();
    wanted->path = loaded->end ? path_of(loaded) : "";
    uint32_t id = find(wanted);
    if (!id && (wanted->path = flk_store_text(&modules.texts, wanted->path)) &&
        (wanted->code = flk_sites_named("", wanted->path)))
        id = flk_store_append(&modules.entries, wanted);
    unlock_modules(guard);
    return id;
}

uint32_t flk_modules_at(uintptr_t address, flk_loaded *loaded) {
    FLK_ASSERT(loaded != NULL);
    *loaded = (flk_loaded){.path = "", .base = address & NOWHERE_MASK};
    flk_module wanted = {.base = loaded->base};
    if (flk_loaded_at(address, loaded))
        wanted = (flk_module){.fingerprint = fingerprint_of(loaded),
                              .base = loaded->base,
                              .flags = flags_of(loaded)};
    return find_or_add(&wanted, loaded);
}

// A binary search: modules are in the order of their codes.
uint32_t flk_modules_of_code(uint32_t code) {
    uint32_t low = 0, high = flk_modules_count();
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (flk_modules_get(middle + 1)->code < code)
            low = middle + 1;
        else
            high = middle;
    }
    const flk_module *one = flk_modules_get(low + 1);
    return one && one->code == code ? low + 1 : 0;
}

uint32_t flk_modules_site(uint32_t module, uintptr_t base, uintptr_t address) {
    const flk_module *one = flk_modules_get(module);
    FLK_ASSERT(!one || one->code != 0);
    return one ? flk_sites_intern(one->code,
                                  (int32_t)(uint32_t)(address - base))
               : 0;
}

bool flk_modules_describe(uint32_t site, flk_native_place *out) {
    FLK_ASSERT(out != NULL);
    uint32_t id = flk_modules_of_code(flk_sites_code_of(site));
    const flk_module *one = flk_modules_get(id);
    if (!one)
        return false;
    *out = (flk_native_place){one->path, one->base,
                              (uint32_t)flk_sites_offset_of(site),
                              one->fingerprint, id};
    return true;
}

uint32_t flk_modules_site_at(uintptr_t address) {
    flk_loaded loaded;
    uint32_t module = flk_modules_at(address, &loaded);
    return module ? flk_modules_site(module, loaded.base, address) : 0;
}

// A module that was loaded again elsewhere is not found at its first base.
const char *flk_modules_function(uint32_t site) {
    const flk_module *one =
        flk_modules_get(flk_modules_of_code(flk_sites_code_of(site)));
    flk_loaded loaded;
    flk_elf elf;
    if (!one || !one->fingerprint || !flk_loaded_is_lock_free())
        return "";
    uintptr_t address = one->base + (uint32_t)flk_sites_offset_of(site);
    bool is_loaded = flk_loaded_at(address, &loaded) &&
                     loaded.base == one->base &&
                     fingerprint_of(&loaded) == one->fingerprint &&
                     flk_loaded_open(&loaded, &elf);
    return is_loaded ? flk_elf_function_at(&elf, address) : "";
}

// --- checks and the fork -----------------------------------------------
bool flk_modules_check(void) {
    bool is_sound = true;
    flk_thread *guard = lock_modules();
    for (uint32_t i = 1; i <= flk_modules_count(); i++) {
        const flk_module *one = flk_modules_get(i);
        const flk_module *before = flk_modules_get(i - 1);
        flk_module copy = *one;
        is_sound &= one->path && find(&copy) == i &&
                    (!before || before->code < one->code) &&
                    flk_modules_of_code(one->code) == i;
    }
    unlock_modules(guard);
    return is_sound;
}

void flk_modules_lock_all(void) { flk_thread_lock(&modules.lock); }
void flk_modules_unlock_all(void) { flk_thread_unlock(&modules.lock); }
#else
bool flk_modules_describe(uint32_t site, flk_native_place *out) {
    (void)site, (void)out;
    return false;
}
bool flk_modules_check(void) { return true; }
void flk_modules_lock_all(void) {}
void flk_modules_unlock_all(void) {}
#endif

// areas.c - parses /proc/self/maps. Contract: reach/areas.h.              SPDX-License-Identifier: MIT
#include "reach/areas.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/platform.h"
#include "base/win32.h"

enum { LINE_BYTES = 512, BUFFER_BYTES = 4096 };

// --- holders ---------------------------------------------------------------
void flk_areas_begin_holders(flk_holders *holders) {
    FLK_ASSERT(holders && holders->items);
    holders->count = FLK_HOLDER_UNSEARCHED + 1;
    for (uint32_t i = 0; i < holders->count; i++)
        holders->items[i] = (flk_holder){.kind = i};
}

static bool is_holder(const flk_holder *one, uint32_t kind, uint32_t thread,
                      const char *name) {
    return one->kind == kind && one->thread == thread &&
           strncmp(one->name, name, sizeof one->name - 1) == 0;
}

uint32_t flk_areas_holder(flk_holders *holders, uint32_t kind, uint32_t thread,
                          const char *name) {
    FLK_ASSERT(holders->count > 0 && holders->count <= FLK_HOLDERS_MAX);
    // The parts of an object lie side by side: the newest one is the likeliest.
    for (uint32_t i = holders->count; i-- > 0;)
        if (is_holder(&holders->items[i], kind, thread, name))
            return i;
    if (holders->count == FLK_HOLDERS_MAX)
        return FLK_HOLDER_UNTRACKED;
    flk_holder *made = &holders->items[holders->count];
    *made = (flk_holder){.kind = kind, .thread = thread};
    strncpy(made->name, name, sizeof made->name - 1);
    return holders->count++;
}

// --- lines -------------------------------------------------------------------
// Calls for each line of the file, without its end; a longer line is cut.
typedef void (*line_visitor)(char *line, void *context);

static bool each_line(line_visitor visit, void *context) {
    char buffer[BUFFER_BYTES], line[LINE_BYTES];
    size_t length = 0;
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    ssize_t got;
    while ((got = read(file, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < got; i++) {
            if (buffer[i] != '\n') {
                if (length < sizeof line - 1)
                    line[length++] = buffer[i];
                continue;
            }
            line[length] = '\0';
            visit(line, context);
            length = 0;
        }
    close(file);
    return got == 0;
}

// "begin-end rwxp offset device inode     path"
typedef struct parsed {
    uintptr_t begin, end;
    char *may;
    const char *path;
} parsed;

static void parse(char *line, parsed *out) {
    char *at = line;
    out->begin = strtoull(at, &at, 16);
    out->end = strtoull(at + 1, &at, 16);
    out->may = at + 1;
    for (int blanks = 0; blanks < 5 && *at; at++)
        blanks += *at == ' ';
    while (*at == ' ')
        at++;
    out->path = at;
    FLK_ASSERT(out->begin < out->end);
}

// --- kinds -------------------------------------------------------------------
static bool starts(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

static flk_area_kind private_kind(const char *path) {
    if (!*path || starts(path, "[anon:"))
        return FLK_AREA_ANONYMOUS;
    if (strcmp(path, "[heap]") == 0)
        return FLK_AREA_HEAP;
    if (strcmp(path, "[stack]") == 0)
        return FLK_AREA_MAIN_STACK;
    // Others in brackets are the kernel's. Reading private memory of a device
    // may have effects.
    bool is_device = starts(path, "/dev/") && !starts(path, "/dev/zero");
    return path[0] == '[' || is_device ? FLK_AREA_CLOSED : FLK_AREA_FILE;
}

// Shared memory is read if it is plain memory: no device.
static flk_area_kind shared_kind(const parsed *p) {
    bool is_plain = !starts(p->path, "/dev/") || starts(p->path, "/dev/shm/") ||
                    starts(p->path, "/dev/zero");
    return p->may[1] == 'w' && p->path[0] == '/' && is_plain ? FLK_AREA_SHARED
                                                             : FLK_AREA_CLOSED;
}

static flk_area_kind kind_of(const parsed *p) {
    if (p->may[0] != 'r')
        return FLK_AREA_CLOSED;
    return p->may[3] == 's' ? shared_kind(p) : private_kind(p->path);
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// --- the array -----------------------------------------------------------------
// Memory that may have guard pages inside of it.
static bool may_have_guards(const parsed *p) {
    return kind_of(p) == FLK_AREA_ANONYMOUS && p->may[1] == 'w';
}

typedef struct counter {
    size_t areas;
    int pagemap;
} counter;

static void count_line(char *line, void *context) {
    FLK_ASSERT(line && context);
    counter *c = context;
    parsed p;
    parse(line, &p);
    c->areas++;
    for (uintptr_t at = p.begin, guard; may_have_guards(&p) && at < p.end;) {
        if (!flk_platform_pages_next_guard(c->pagemap, at, p.end, &guard, &at))
            return;
        c->areas += 2;
    }
}

typedef struct filler {
    flk_areas *areas;
    int pagemap;
    flk_holders *holders;
    size_t capacity;
    // The object whose data the last area was, for what follows it.
    char object[FLK_HOLDER_NAME_BYTES];
} filler;

static uint32_t holder_of(filler *f, const flk_area *area, const parsed *p,
                          const flk_area *before) {
    bool is_next = before && before->end == area->begin;
    switch (area->kind) {
    case FLK_AREA_FILE:
        strncpy(f->object, last_part(p->path), sizeof f->object - 1);
        return flk_areas_holder(f->holders, FLK_HOLDER_DATA, 0, f->object);
    case FLK_AREA_SHARED:
        return flk_areas_holder(f->holders, FLK_HOLDER_SHARED, 0,
                                last_part(p->path));
    case FLK_AREA_MAIN_STACK:
        return flk_areas_holder(f->holders, FLK_HOLDER_STACK, FLK_HOLDER_MAIN,
                                "");
    case FLK_AREA_ANONYMOUS:
        if (is_next && before->kind == FLK_AREA_FILE && before->is_writable &&
            area->is_writable)
            return flk_areas_holder(f->holders, FLK_HOLDER_BSS, 0, f->object);
        return FLK_HOLDER_UNTRACKED;
    default:
        return FLK_HOLDER_UNTRACKED;
    }
}

// Makes areas of their own of the guard pages in the last area, and of what
// follows each.
static void split_at_guards(filler *f) {
    flk_areas *areas = f->areas;
    flk_area whole = areas->items[areas->count - 1];
    uintptr_t begin, end = whole.begin;
    while (end < whole.end && areas->count + 2 <= f->capacity &&
           flk_platform_pages_next_guard(f->pagemap, end, whole.end, &begin,
                                         &end)) {
        flk_area *last = &areas->items[areas->count - 1];
        last->end = begin;
        if (last->begin == begin)
            areas->count--;
        areas->items[areas->count++] = (flk_area){.begin = begin,
                                                  .end = end,
                                                  .kind = FLK_AREA_CLOSED,
                                                  .holder = whole.holder};
        if (end == whole.end)
            return;
        flk_area *next = &areas->items[areas->count++];
        *next = whole;
        next->begin = end;
        next->follows_guard = true;
    }
}

static void fill_line(char *line, void *context) {
    filler *f = context;
    flk_areas *areas = f->areas;
    parsed p;
    if (areas->count == f->capacity)
        return;
    parse(line, &p);
    flk_area *made = &areas->items[areas->count];
    const flk_area *before = areas->count ? made - 1 : NULL;
    *made = (flk_area){.begin = p.begin,
                       .end = p.end,
                       .kind = kind_of(&p),
                       .is_writable = p.may[1] == 'w'};
    made->follows_guard =
        before && before->end == made->begin && before->kind == FLK_AREA_CLOSED;
    made->holder = holder_of(f, made, &p, before);
    areas->count++;
    if (may_have_guards(&p))
        split_at_guards(f);
}

bool flk_areas_read(flk_areas *areas, flk_holders *holders, int pagemap) {
    FLK_ASSERT(areas && holders && holders->count > 0);
    // The array itself is a mapping, too.
    counter counted = {.areas = 64, .pagemap = pagemap};
    int saved = errno;
    *areas = (flk_areas){.count = 0};
    bool good = each_line(count_line, &counted);
    size_t bytes = flk_platform_pages_for(counted.areas * sizeof(flk_area));
    if (good)
        areas->items = flk_platform_pages_map(bytes, flk_platform_page_bytes());
    good = areas->items != NULL;
    if (good) {
        areas->mapped_bytes = bytes;
        filler f = {.areas = areas,
                    .pagemap = pagemap,
                    .holders = holders,
                    .capacity = counted.areas};
        good = each_line(fill_line, &f);
    }
    errno = saved;
    return good;
}

void flk_areas_drop(flk_areas *areas) {
    FLK_ASSERT(areas);
    if (areas->items)
        flk_platform_pages_unmap(areas->items, areas->mapped_bytes);
    *areas = (flk_areas){.count = 0};
}

flk_area *flk_areas_at(const flk_areas *areas, uintptr_t address) {
    FLK_ASSERT(areas);
    size_t low = 0, high = areas->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (areas->items[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < areas->count ? &areas->items[low] : NULL;
}

bool flk_areas_have(const flk_areas *areas, uintptr_t begin, size_t bytes) {
    const flk_area *area = flk_areas_at(areas, begin);
    return area && area->begin <= begin && bytes <= area->end - begin &&
           (area->kind == FLK_AREA_ANONYMOUS || area->kind == FLK_AREA_HEAP);
}

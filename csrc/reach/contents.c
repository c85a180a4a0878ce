// contents.c - /proc/self/pagemap and /proc/self/mem. Contract: reach/contents.h.   SPDX-License-Identifier: MIT
#include "reach/contents.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/platform.h"
#include "base/win32.h"

enum { WINDOW = FLK_CONTENTS_WINDOW };
// In an entry of /proc/self/pagemap.
static const uint64_t IN_MEMORY = UINT64_C(3) << 62;  // or in swap
static const uint64_t OF_FILE = UINT64_C(1) << 61;    // never written to

// Memory of a child does not change, and absent pages read as zeros. Sanitizers
// allow no reads of what is not the program's.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { IS_READ_IN_PLACE = 0 };
#else
enum { IS_READ_IN_PLACE = 1 };
#endif

static uintptr_t least(uintptr_t a, uintptr_t b) { return a < b ? a : b; }

bool flk_contents_open(flk_contents *contents, bool in_process) {
    FLK_ASSERT(contents);
    contents->buffer = flk_platform_pages_map(
        flk_platform_pages_for(FLK_PIECE_BYTES), flk_platform_page_bytes());
    contents->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    contents->memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    contents->is_still =
        IS_READ_IN_PLACE && !in_process && contents->pagemap >= 0;
    return contents->buffer != NULL;
}

void flk_contents_close(flk_contents *contents) {
    FLK_ASSERT(contents);
    if (contents->buffer)
        flk_platform_pages_unmap(contents->buffer,
                                 flk_platform_pages_for(FLK_PIECE_BYTES));
    if (contents->pagemap >= 0)
        close(contents->pagemap);
    if (contents->memory >= 0)
        close(contents->memory);
}

// Reads which pages of the window at `begin` have contents: pages that were
// never written to have no pointers to blocks.
static void read_window(flk_contents *c, const flk_area *area, uintptr_t begin,
                        size_t pages) {
    FLK_ASSERT(pages > 0 && pages <= WINDOW);
    uint64_t entries[WINDOW];
    size_t page = flk_platform_page_bytes();
    bool is_known = false;
    if (area->kind == FLK_AREA_SHARED) {
        is_known = flk_platform_pages_resident(begin, pages, c->is_wanted);
    } else if (c->pagemap >= 0) {
        ssize_t bytes = (ssize_t)(pages * sizeof *entries);
        is_known = pread(c->pagemap, entries, (size_t)bytes,
                         (off_t)(begin / page * sizeof *entries)) == bytes;
        for (size_t i = 0; i < pages && is_known; i++)
            c->is_wanted[i] = entries[i] & IN_MEMORY && !(entries[i] & OF_FILE);
    }
    if (!is_known)  // code and constants then are not read
        memset(c->is_wanted, area->is_writable || area->kind != FLK_AREA_FILE,
               pages);
}

const char *flk_contents_at(flk_contents *contents, const flk_area *area,
                            uintptr_t begin, size_t bytes) {
    FLK_ASSERT(contents && area && bytes <= FLK_PIECE_BYTES);
    if (contents->is_still && area->kind != FLK_AREA_SHARED)
        return (const char *)begin;
    if (contents->memory < 0 ||
        !flk_platform_memory_copy(contents->memory, begin, contents->buffer,
                                  bytes))
        return NULL;
    return contents->buffer;
}

static bool is_any(const unsigned char *flags, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any |= flags[i];
    return any;
}

// One piece, or the part of it that is in the range. Returns false if the reader
// ends the reading.
static bool read_piece(flk_contents *c, const flk_area *area, uintptr_t window,
                       uintptr_t begin, uintptr_t end,
                       flk_contents_reader *reader, void *context) {
    size_t page = flk_platform_page_bytes();
    const unsigned char *wanted = c->is_wanted + (begin - window) / page;
    size_t pages = (end - 1) / page - begin / page + 1;
    if (!is_any(wanted, pages))
        return true;
    for (uintptr_t at = begin; at < end; wanted++) {
        // Pages of anonymous memory without contents read as zeros.
        bool is_of_file = flk_contents_are_of_file(area);
        uintptr_t next =
            is_of_file ? least((at & ~(page - 1)) + page, end) : end;
        const char *copy = *wanted || !is_of_file
                               ? flk_contents_at(c, area, at, next - at)
                               : NULL;
        if (copy && !reader(context, area, copy, at, next))
            return false;
        at = next;
    }
    return true;
}

// The start of the next window of pages that may have contents.
static uintptr_t next_window(const flk_contents *c, const flk_area *area,
                             uintptr_t at, uintptr_t end) {
    uintptr_t window = at & ~(flk_platform_page_bytes() - 1);
    if (c->pagemap < 0 || area->kind == FLK_AREA_SHARED)
        return window;
    return flk_platform_pages_next_used(c->pagemap, window,
                                        flk_platform_pages_for(end));
}

void flk_contents_read(flk_contents *contents, const flk_area *area,
                       uintptr_t begin, uintptr_t end,
                       flk_contents_reader *reader, void *context) {
    FLK_ASSERT(area->begin <= begin && begin <= end && end <= area->end);
    size_t page = flk_platform_page_bytes();
    for (uintptr_t at = begin; at < end;) {
        uintptr_t window = next_window(contents, area, at, end);
        at = window > at ? window : at;
        if (at >= end)
            return;
        uintptr_t stop = least((at / (WINDOW * page) + 1) * WINDOW * page, end);
        size_t pages = (stop - window + page - 1) / page;
        read_window(contents, area, window, pages);
        if (!is_any(contents->is_wanted, pages))
            at = stop;
        while (at < stop) {
            uintptr_t next =
                least((at / FLK_PIECE_BYTES + 1) * FLK_PIECE_BYTES, stop);
            if (!read_piece(contents, area, window, at, next, reader, context))
                return;
            at = next;
        }
    }
}

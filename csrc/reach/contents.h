// contents.h - the contents of this process's memory: which pages have any, and their bytes.   SPDX-License-Identifier: MIT
// Keeps:   two files of /proc, open until flk_contents_close, and one mapped piece.
// Cost:    one system call for 512 pages of a range, and one for each range of pages without contents. Bytes of memory
//          that does not change are passed where they lie.
// Callers: the search for pointers. No lock; no C allocation.
// Fails:   flk_contents_open returns false without memory. Without /proc/self/pagemap all pages of writable memory are
//          taken to have contents. Memory that cannot be read is not passed.
#ifndef FLK_CONTENTS_H
#define FLK_CONTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reach/areas.h"

enum { FLK_CONTENTS_WINDOW = 512 };  // pages whose presence is read at once

typedef struct flk_contents {
    int pagemap, memory;  // files of /proc; -1: not there
    bool is_still;        // nothing changes, so memory is read in place
    char *buffer;         // a piece
    unsigned char is_wanted[FLK_CONTENTS_WINDOW];
} flk_contents;

// Gets a part of an area, which lies at `begin` and ends at `end`, and whose
// bytes are at `copy`. Returns false to end the reading.
typedef bool flk_contents_reader(void *context, const flk_area *area,
                                 const char *copy, uintptr_t begin,
                                 uintptr_t end);

// `in_process`: other threads may change the memory.
bool flk_contents_open(flk_contents *contents, bool in_process);
void flk_contents_close(flk_contents *contents);
// The bytes of a part of an area, at most a piece; NULL if they cannot be read.
// They are valid until the next call.
const char *flk_contents_at(flk_contents *contents, const flk_area *area,
                            uintptr_t begin, size_t bytes);
// Calls for each part of the range that has contents, in order. A part is not
// longer than a piece; whole pieces are passed at once.
void flk_contents_read(flk_contents *contents, const flk_area *area,
                       uintptr_t begin, uintptr_t end,
                       flk_contents_reader *reader, void *context);
// Whether pages without contents cannot be told from zeros by reading them.
static inline bool flk_contents_are_of_file(const flk_area *area) {
    return area->kind == FLK_AREA_FILE || area->kind == FLK_AREA_SHARED;
}

#endif

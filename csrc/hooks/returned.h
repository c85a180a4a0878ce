// returned.h - blocks that the C library allocates to return them.           SPDX-License-Identifier: MIT
// Keeps:   in the marks of the thread (flk_marks.returned): which function is running, and what it allocated so far.
// Cost:    a compare for each note.
// Callers: hooks/bodies.c, hooks/results.c, in the thread that the marks belong to.
// Fails:   of more notes than there is room for, the first and the last ones are kept.
// Invariant: type and frame are set while such a function runs, and may stay set if it was left by longjmp. Recording
//            a call that a traced object makes by itself never depends on them.
#ifndef FLK_RETURNED_H
#define FLK_RETURNED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

// --- marks that were left behind -----------------------------------------
// A function of the C library may be left by longjmp, by a C++ exception or
// by pthread_exit; then the code that clears its mark does not run. Each mark
// keeps the stack pointer before the marked call. A later hook whose caller
// has a stack pointer at or above it cannot be inside that call, so the mark
// is void. (The stack grows towards lower addresses.) On another stack
// (sigaltstack, a coroutine) this says nothing; that the distance is large
// shows such a stack.
#define FLK_STACK_HERE ((uintptr_t)__builtin_dwarf_cfa())
enum { FLK_SAME_STACK_BYTES = 1 << 24 };

static inline bool flk_returned_is_left_behind(uintptr_t frame,
                                               uintptr_t here) {
    return here - frame < FLK_SAME_STACK_BYTES;
}

static inline void flk_returned_drop_left_behind(flk_marks *marks,
                                                 uintptr_t here) {
    FLK_ASSERT(here != 0);
    if (flk_returned_is_left_behind(marks->returned.frame, here))
        marks->returned = (flk_returned){.type = 0};
}

// --- notes ---------------------------------------------------------------
// An opened stream is the first block that is allocated, a line the last one.
static inline void flk_returned_note(flk_returned *returned, uintptr_t block,
                                     uint64_t size_bytes) {
    FLK_ASSERT(returned->type != 0 && block != 0);
    uint32_t i = returned->note_count++;
    if (i >= FLK_RETURNED_MAX)
        i = 1 + (i - FLK_RETURNED_MAX) % (FLK_RETURNED_MAX - 1);
    returned->notes[i].address = block;
    returned->notes[i].size_bytes = size_bytes;
}

static inline uint32_t flk_returned_noted(const flk_returned *returned) {
    FLK_ASSERT(returned != NULL);
    return returned->note_count < FLK_RETURNED_MAX ? returned->note_count
                                                   : FLK_RETURNED_MAX;
}

// False: no note of this block.
static inline bool flk_returned_find(const flk_returned *returned,
                                     uintptr_t block, uint64_t *size_bytes) {
    FLK_ASSERT(block != 0);
    for (uint32_t i = 0; i < flk_returned_noted(returned); i++)
        if (returned->notes[i].address == block) {
            *size_bytes = returned->notes[i].size_bytes;
            return true;
        }
    return false;
}

static inline bool flk_returned_forget(flk_returned *returned,
                                       uintptr_t block) {
    FLK_ASSERT(block != 0);
    for (uint32_t i = 0; i < flk_returned_noted(returned); i++)
        if (returned->notes[i].address == block) {
            returned->notes[i].address = 0;
            return true;
        }
    return false;
}
#endif

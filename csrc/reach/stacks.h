// stacks.h - the stack pointers of other threads, and which stacks are of ended ones.   SPDX-License-Identifier: MIT
// Keeps:   nothing; the caller has the table.
// Cost:    four small files of /proc for each thread: some tens of microseconds.
// Callers: the thread that looks for pointers: note before the child is made, confirm after it.
// Fails:   without /proc, and for threads beyond FLK_STACKS_MAX, nothing is known; whole stacks are searched then.
// Invariant: the pointer of a thread that is still was the right one when the child was made: the thread waited in the
//            kernel at note, and did not run until confirm (the third number of schedstat counts its turns).
#ifndef FLK_STACKS_H
#define FLK_STACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

enum { FLK_STACK_ARGUMENTS = 6 };
typedef struct flk_stack {
    uint64_t turns;
    uintptr_t pointer;
    // The arguments of the system call it waits in: registers that may hold the
    // only pointer to a buffer.
    uintptr_t arguments[FLK_STACK_ARGUMENTS];
    uint32_t thread_id;  // of the system
    bool is_still;
} flk_stack;

typedef struct flk_stacks {
    uint32_t count;
    uint32_t moving_count;  // threads whose registers are not known
    // Where the C library's data of a thread have its number, which the system
    // sets to 0 at its end; 0: not known.
    uint32_t id_offset;
    flk_stack items[FLK_STACKS_MAX];
} flk_stacks;

void flk_stacks_note(flk_stacks *stacks);
void flk_stacks_confirm(flk_stacks *stacks);
// The address of the C library's data of a thread that has ended, if they begin
// in this memory, which is readable up to `limit` and does not change; 0 if not,
// and where they are not known (glibc on x86-64 only).
uintptr_t flk_stacks_ended_thread(const flk_stacks *stacks, uintptr_t begin,
                                  uintptr_t end, uintptr_t limit);

#endif

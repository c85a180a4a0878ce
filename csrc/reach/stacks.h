// stacks.h - the stack pointers of other threads, as far as they are certain.   SPDX-License-Identifier: MIT
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
    flk_stack items[FLK_STACKS_MAX];
} flk_stacks;

void flk_stacks_note(flk_stacks *stacks);
void flk_stacks_confirm(flk_stacks *stacks);

#endif

// callers.h - which object does this return address lie in?              SPDX-License-Identifier: MIT
// Keeps:   the address ranges of loaded objects, sorted, each asked for or not, in a fixed table.
// Cost:    a binary search and a version check; no lock.
// Callers: find: any thread, from hooks. Begin, add and end: under FLK_RANK_ATTACH.
// Fails:   more objects than FLK_OBJECTS_MAX: the rest is unknown.
// Invariant: a reader sees one whole table or tries again (a sequence lock; after some tries: unknown).
#ifndef FLK_CALLERS_H
#define FLK_CALLERS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum flk_caller {
    FLK_CALLER_UNKNOWN,
    FLK_CALLER_UNTRACED,
    FLK_CALLER_TRACED,
} flk_caller;

flk_caller flk_callers_find(uintptr_t address);
// The same by the table alone.
flk_caller flk_callers_listed(uintptr_t address);
// Tells of addresses in no range of the table: objects that came since, as
// the loader knows them. NULL (at first): nobody does.
void flk_callers_set_late_objects(flk_caller (*find)(uintptr_t address));
// Replaces the table: begin, add in any order, end.
void flk_callers_begin(void);
void flk_callers_add(uintptr_t begin, uintptr_t end, bool is_traced);
void flk_callers_end(void);
uint32_t flk_callers_count(void);

#endif

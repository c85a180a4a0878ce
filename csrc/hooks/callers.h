// callers.h - whether the object that a return address lies in is traced.   SPDX-License-Identifier: MIT
// Keeps:   the address ranges of loaded objects, sorted, each traced or not, in a fixed table.
// Cost:    a binary search and a comparison of versions; no lock. For objects loaded after the last pass the search of
//          hooks/late_objects.h.
// Callers: find, listed: any thread, from hooks. Begin, add and end: under FLK_RANK_ATTACH.
// Fails:   more objects than FLK_OBJECTS_MAX: those that do not fit are counted, and treated as late objects.
// Invariant: a reader sees one whole table or reads again (a sequence lock); after some tries the caller is unknown.
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
// By the table alone.
flk_caller flk_callers_listed(uintptr_t address);
// Two callbacks, both NULL at first. `notice` runs at the start of each find.
// `find` is called for addresses that the table does not contain.
void flk_callers_set_late_objects(void (*notice)(void),
                                  flk_caller (*find)(uintptr_t address));
// A new table: begin, add in any order, end.
void flk_callers_begin(void);
void flk_callers_add(uintptr_t begin, uintptr_t end, bool is_traced);
void flk_callers_end(void);
uint32_t flk_callers_count(void);
// Objects for which the table had no room.
uint32_t flk_callers_left_out(void);

#endif

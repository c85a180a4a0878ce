// callers.h - what is recorded of the object that a return address lies in.   SPDX-License-Identifier: MIT
// Keeps:   the address ranges of loaded objects, sorted, each with its kind, in a fixed table.
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
    // Untraced, and it calls C++ runtimes by itself: it is linked to one, or is
    // the loader.
    FLK_CALLER_UNTRACED_CXX,
    FLK_CALLER_TRACED,
    // A part of what calls it: the C++ runtime, the C library, this module.
    FLK_CALLER_PASSED,
    // Untraced. But what it calls through a looked-up pointer is the call of
    // a user: cffi and ctypes call whatever Python code names. OF_NAMED: only
    // functions of an object that a pattern names.
    FLK_CALLER_LOOKS_UP,
    FLK_CALLER_LOOKS_UP_OF_NAMED,
    FLK_CALLER_COUNT,
} flk_caller;

flk_caller flk_callers_find(uintptr_t address);
// By the table alone.
flk_caller flk_callers_listed(uintptr_t address);
// Another number, not 0, whenever the table has changed.
uint32_t flk_callers_version(void);

// Objects that were loaded after the last pass. Two callbacks, both NULL at
// first. `find` is called for addresses that the table does not contain.
typedef enum flk_late {
    FLK_LATE_NO,      // nothing was loaded since, or no pass could be made
    FLK_LATE_OTHERS,  // a pass was made now
    FLK_LATE_TRACED,  // and a traced object used the function till then by
                      // the address that was looked up
} flk_late;
void flk_callers_set_late_objects(flk_late (*notice)(unsigned function),
                                  flk_caller (*find)(uintptr_t address));
// To be called when a looked-up function is called, before find.
flk_late flk_callers_notice(unsigned function);
// A new table: begin, add in any order, end.
void flk_callers_begin(void);
void flk_callers_add(uintptr_t begin, uintptr_t end, flk_caller kind);
// `has_traced_cxx`: a traced object is linked to a C++ runtime.
void flk_callers_end(bool has_traced_cxx);
bool flk_callers_have_traced_cxx(void);
uint32_t flk_callers_count(void);
// Objects for which the table had no room.
uint32_t flk_callers_left_out(void);

#endif

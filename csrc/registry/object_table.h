// object_table.h - living objects of chosen classes: which, and where each was made.  SPDX-License-Identifier: MIT
// Keeps:   for each tracker a table address -> object, counts for each of its classes, and a queue of what
//          happened to objects of classes somebody wants to be told of.
// Cost:    add and take O(1); 32 bytes an object at a load of 3/8 to 3/4. No tombstones: a removal shifts the
//          followers back, and a table that ran empty shrinks, so churn never makes it grow.
// Callers: any thread; one lock for all trackers, FLK_RANK_OBJECT_TABLE. What an address points to is never read here.
// Fails:   no page left: the object is not recorded, and its tracker counts a drop; later its death is not known.
// Invariant: made - freed = entries of a class, for each class of each tracker. Checked by flk_object_table_check().
#ifndef FLK_OBJECT_TABLE_H
#define FLK_OBJECT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"

typedef struct flk_object {
    uint64_t address;  // 0 = an empty place
    uint64_t sequence;
    uint32_t path;
    uint32_t size_bytes;
    uint16_t class_index;
    uint16_t type;  // flk_names
    uint16_t thread;
    bool is_told;  // its creation stands or stood in the queue
} flk_object;

enum { FLK_OBJECT_MADE = 1, FLK_OBJECT_FREED = 2 };

typedef struct flk_object_event {
    uint64_t sequence;  // of the object
    uint16_t class_index;
    uint16_t what;
} flk_object_event;

typedef struct flk_object_counts {
    uint64_t made, freed;
} flk_object_counts;

typedef struct flk_object_table_figures {
    uint64_t entries, capacity, bytes, dropped, waiting;
} flk_object_table_figures;

// Number (>= 0) of a new empty tracker, or -1: FLK_TRACKERS_MAX are open.
int flk_object_table_open(void);
void flk_object_table_close(int tracker);
// True if it is recorded. `is_told` is set here. One at that address before
// is taken as freed: nobody saw it go.
bool flk_object_table_add(int tracker, const flk_object *object);
bool flk_object_table_take(int tracker,
                           uint64_t address);  // true: it was there
bool flk_object_table_has(int tracker, uint64_t address);
void flk_object_table_tell(int tracker, uint16_t class_index, bool on);
bool flk_object_table_next_event(int tracker, flk_object_event *out);
// Does an event of any tracker wait? Without the lock.
bool flk_object_table_waits(void);
flk_object_counts flk_object_table_counts(int tracker, uint16_t class_index);
// Forgets the objects of a class and its counts; all with
// FLK_CLASSES_MAX. What waits in the queue stays there.
void flk_object_table_forget(int tracker, uint16_t class_index);
// Calls with the lock held: `visit` must not call this module.
typedef void (*flk_object_table_visitor)(const flk_object *object,
                                         void *context);
void flk_object_table_visit(int tracker, flk_object_table_visitor visit,
                            void *context);
void flk_object_table_read(int tracker, flk_object_table_figures *out);

bool flk_object_table_check(void);
void flk_object_table_lock_all(void);
void flk_object_table_unlock_all(void);

#endif

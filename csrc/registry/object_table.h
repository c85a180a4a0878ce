// object_table.h - live Python objects of chosen classes, and where each was made. SPDX-License-Identifier: MIT
// Keeps:   for each tracker a table from address to object, counts for each of its classes, and a queue of events of
//          the classes that are observed.
// Cost:    add and take O(1); 32 bytes an object at a load of 3/8 to 3/4. There are no tombstones: a removal moves later
//          entries back, and a table with few entries shrinks, so it does not grow by additions and removals in turn.
// Callers: any thread. One lock for all trackers, rank FLK_RANK_OBJECT_TABLE, which no event of native blocks takes.
//          The memory at an address is never read here.
// Fails:   no page left: the object is not recorded, its tracker counts a drop, and its end is not noticed.
// Invariant: for each class of each tracker made - freed = its entries. Checked by flk_object_table_check().
#ifndef FLK_OBJECT_TABLE_H
#define FLK_OBJECT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"

typedef struct flk_object {
    uint64_t address;  // 0: an empty place
    uint64_t sequence;
    uint32_t path;
    uint32_t size_bytes;
    uint16_t class_index;
    uint16_t type;  // registry/names.h
    uint16_t thread;
    bool is_told;  // the event of its creation is or was in the queue
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

// The number (>= 0) of a new empty tracker; -1: FLK_TRACKERS_MAX are open.
int flk_object_table_open(void);
void flk_object_table_close(int tracker);
// True if the object is recorded; `is_told` is set here. An object that was at
// the address before counts as freed: its end was missed.
bool flk_object_table_add(int tracker, const flk_object *object);
// True if the object was there.
bool flk_object_table_take(int tracker, uint64_t address);
bool flk_object_table_has(int tracker, uint64_t address);
// Queue events of the objects of a class that are made from now on, or not.
void flk_object_table_tell(int tracker, uint16_t class_index, bool on);
// Takes the oldest event. False: none waits.
bool flk_object_table_next_event(int tracker, flk_object_event *out);
// Does an event of any tracker wait? Without the lock: a hint.
bool flk_object_table_waits(void);
flk_object_counts flk_object_table_counts(int tracker, uint16_t class_index);
// Forgets the objects of a class and its counts; of all classes with
// FLK_CLASSES_MAX. Events that wait stay in the queue.
void flk_object_table_forget(int tracker, uint16_t class_index);
// The lock is held meanwhile: `visit` must not call this module.
typedef void (*flk_object_table_visitor)(const flk_object *object,
                                         void *context);
void flk_object_table_visit(int tracker, flk_object_table_visitor visit,
                            void *context);
void flk_object_table_read(int tracker, flk_object_table_figures *out);

bool flk_object_table_check(void);
void flk_object_table_lock_all(void);
void flk_object_table_unlock_all(void);

#endif

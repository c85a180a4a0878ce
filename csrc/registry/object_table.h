// object_table.h - live Python objects of selected classes and where each was created.  SPDX-License-Identifier: MIT
// Keeps:   for each tracker: a table from address to object, counts for each of its classes, and a queue of events.
//          The queue holds creations and frees of objects whose class reports events (flk_object_table_tell).
// Cost:    add and take O(1); 32 bytes an object at a load of 3/8 to 3/4. There are no
//          tombstones: a removal moves later entries back. A sparse table shrinks. So churn never makes it grow.
// Callers: any thread; one lock for all trackers, FLK_RANK_OBJECT_TABLE. This module never reads
//          the memory at an address.
// Fails:   without memory the object is not recorded and its tracker counts a drop. The free of that object is then not
//          recorded either. A full queue counts a drop as well.
// Invariant: for each class of each tracker, made - freed = entries of the class in the table. Checked by
//            flk_object_table_check().
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
    bool is_told;  // its creation was put into the queue
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

// Opens an empty tracker and returns its number, at least 0. Returns -1 if
// FLK_TRACKERS_MAX trackers are open.
int flk_object_table_open(void);
void flk_object_table_close(int tracker);
// Records an object; true if it was recorded. This function sets `is_told`. An
// object recorded at the same address before is counted as freed, because its
// free was missed.
bool flk_object_table_add(int tracker, const flk_object *object);
// Removes the object at the address and counts it as freed. True if there was
// one.
bool flk_object_table_take(int tracker, uint64_t address);
bool flk_object_table_has(int tracker, uint64_t address);
// Turns events of a class on or off.
void flk_object_table_tell(int tracker, uint16_t class_index, bool on);
// Takes the oldest event out of the queue; false if the queue is empty.
bool flk_object_table_next_event(int tracker, flk_object_event *out);
// True if an event waits in a queue of any tracker. Takes no lock.
bool flk_object_table_waits(void);
flk_object_counts flk_object_table_counts(int tracker, uint16_t class_index);
// Forgets the objects and the counts of a class. With FLK_CLASSES_MAX it forgets
// those of all classes. Events in the queue stay there.
void flk_object_table_forget(int tracker, uint16_t class_index);
// Calls `visit` with the lock held; `visit` must not call this module.
typedef void (*flk_object_table_visitor)(const flk_object *object,
                                         void *context);
void flk_object_table_visit(int tracker, flk_object_table_visitor visit,
                            void *context);
void flk_object_table_read(int tracker, flk_object_table_figures *out);

bool flk_object_table_check(void);
void flk_object_table_lock_all(void);
void flk_object_table_unlock_all(void);

#endif

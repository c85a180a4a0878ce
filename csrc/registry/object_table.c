// object_table.c - tables of objects. Contract: registry/object_table.h.                  SPDX-License-Identifier: MIT
#include "registry/object_table.h"

#include <string.h>

#include "base/hash.h"
#include "base/platform.h"
#include "base/queue.h"

enum { CAPACITY_MIN = 128 };  // a page
_Static_assert((CAPACITY_MIN & (CAPACITY_MIN - 1)) == 0, "a power of two");
_Static_assert(sizeof(flk_object) == 32, "half a cache line");

typedef struct tracker {
    bool is_open;
    uint32_t capacity, count;  // places (a power of two, or 0); places in use
    flk_object *objects;
    uint64_t dropped;
    flk_queue events;
    bool notifies[FLK_CLASSES_MAX];
    flk_object_counts counts[FLK_CLASSES_MAX];
} tracker;

static struct {
    flk_lock lock;  // guards the rest
    tracker trackers[FLK_TRACKERS_MAX];
    atomic_ullong waiting;  // events in all queues; relaxed, since it is a hint
} table = {.lock = FLK_LOCK_INIT(FLK_RANK_OBJECT_TABLE)};

// The tracker of the number, with the lock held.
static tracker *locked(int number) {
    FLK_ASSERT(number >= 0 && number < FLK_TRACKERS_MAX);
    flk_lock_take(&table.lock);
    return &table.trackers[number];
}

static void unlock(void) { flk_lock_release(&table.lock); }

// --- the table ---------------------------------------------------------
static uint32_t home_of(const tracker *t, uint64_t address) {
    FLK_ASSERT((t->capacity & (t->capacity - 1)) == 0 && t->capacity > 0);
    return (uint32_t)(flk_hash_mix(address) & (t->capacity - 1));
}

// The place of the object at the address, or the empty place where it belongs.
static uint32_t place_of(const tracker *t, uint64_t address) {
    FLK_ASSERT(address != 0 && t->count < t->capacity);
    uint32_t i = home_of(t, address);
    while (t->objects[i].address && t->objects[i].address != address)
        i = (i + 1) & (t->capacity - 1);
    return i;
}

static size_t bytes_for(uint32_t capacity) {
    FLK_ASSERT(capacity > 0);
    return flk_platform_pages_for(capacity * sizeof(flk_object));
}

static void table_drop(tracker *t) {
    FLK_ASSERT(t->objects != NULL || t->capacity == 0);
    if (t->objects)
        flk_platform_pages_unmap(t->objects, bytes_for(t->capacity));
    t->objects = NULL;
    t->capacity = t->count = 0;
}

// False without memory; the table is then unchanged.
static bool resize(tracker *t, uint32_t capacity) {
    FLK_ASSERT((capacity & (capacity - 1)) == 0 && t->count < capacity);
    tracker grown = {.capacity = capacity, .count = t->count};
    grown.objects =
        flk_platform_pages_map(bytes_for(capacity), flk_platform_page_bytes());
    if (!grown.objects)
        return false;
    for (uint32_t i = 0; i < t->capacity; i++)
        if (t->objects[i].address)
            grown.objects[place_of(&grown, t->objects[i].address)] =
                t->objects[i];
    table_drop(t);
    t->objects = grown.objects;
    t->capacity = grown.capacity;
    t->count = grown.count;
    return true;
}

// Makes room for one more object. One place always stays empty, because a search
// in a full table would not end.
static bool has_room(tracker *t) {
    FLK_ASSERT(t->count <= t->capacity);
    if (t->capacity == 0)
        return resize(t, CAPACITY_MIN);
    if (t->count < t->capacity / 4 * 3)
        return true;
    bool grown = t->capacity < UINT32_C(1) << 30 && resize(t, t->capacity * 2);
    return grown || t->count + 1 < t->capacity;
}

// Empties a place. A later entry moves back when its home position allows it
// (backward-shift deletion).
static void empty_place(tracker *t, uint32_t hole) {
    FLK_ASSERT(hole < t->capacity && t->count > 0);
    FLK_ASSERT(t->objects[hole].address != 0);
    uint32_t mask = t->capacity - 1;
    for (uint32_t i = (hole + 1) & mask; t->objects[i].address;
         i = (i + 1) & mask) {
        uint32_t from_home = (i - home_of(t, t->objects[i].address)) & mask;
        if (from_home < ((i - hole) & mask))
            continue;
        t->objects[hole] = t->objects[i];
        hole = i;
    }
    t->objects[hole] = (flk_object){.address = 0};
    t->count--;
}

static void shrink(tracker *t) {
    FLK_ASSERT(t->count <= t->capacity);
    if (t->capacity > CAPACITY_MIN && t->count < t->capacity / 8)
        resize(t, t->capacity / 2);  // without memory the table stays as it is
}

// --- events ------------------------------------------------------------
static bool push(tracker *t, const flk_object *object, uint16_t what) {
    FLK_ASSERT(what == FLK_OBJECT_MADE || what == FLK_OBJECT_FREED);
    flk_object_event event = {object->sequence, object->class_index, what};
    bool pushed = flk_queue_push(&t->events, &event);
    t->dropped += !pushed;
    table.waiting += pushed;
    return pushed;
}

static void free_at(tracker *t, uint32_t place) {
    FLK_ASSERT(place < t->capacity && t->objects[place].address != 0);
    flk_object object = t->objects[place];
    t->counts[object.class_index].freed++;
    empty_place(t, place);
    if (object.is_told)
        push(t, &object, FLK_OBJECT_FREED);
}

static bool add(tracker *t, const flk_object *object) {
    FLK_ASSERT(object->address && object->class_index < FLK_CLASSES_MAX);
    if (!t->is_open)
        return false;
    if (!has_room(t)) {
        t->dropped++;
        return false;
    }
    uint32_t place = place_of(t, object->address);
    if (t->objects[place].address) {
        free_at(t, place);
        place = place_of(t, object->address);
    }
    t->objects[place] = *object;
    t->objects[place].is_told =
        t->notifies[object->class_index] && push(t, object, FLK_OBJECT_MADE);
    t->counts[object->class_index].made++;
    t->count++;
    return true;
}

bool flk_object_table_add(int number, const flk_object *object) {
    FLK_ASSERT(object != NULL);
    bool added = add(locked(number), object);
    unlock();
    return added;
}

bool flk_object_table_take(int number, uint64_t address) {
    FLK_ASSERT(address != 0);
    tracker *t = locked(number);
    uint32_t place = t->count ? place_of(t, address) : 0;
    bool found = t->count && t->objects[place].address;
    if (found) {
        free_at(t, place);
        shrink(t);
    }
    unlock();
    return found;
}

bool flk_object_table_has(int number, uint64_t address) {
    FLK_ASSERT(address != 0);
    const tracker *t = locked(number);
    bool found = t->count && t->objects[place_of(t, address)].address;
    unlock();
    return found;
}

void flk_object_table_tell(int number, uint16_t class_index, bool on) {
    FLK_ASSERT(class_index < FLK_CLASSES_MAX);
    locked(number)->notifies[class_index] = on;
    unlock();
}

bool flk_object_table_next_event(int number, flk_object_event *out) {
    FLK_ASSERT(out != NULL);
    bool found = flk_queue_pop(&locked(number)->events, out);
    table.waiting -= found;
    unlock();
    return found;
}

bool flk_object_table_waits(void) {
    return atomic_load_explicit(&table.waiting, memory_order_relaxed) > 0;
}

// --- life --------------------------------------------------------------
int flk_object_table_open(void) {
    flk_lock_take(&table.lock);
    int number = 0;
    while (number < FLK_TRACKERS_MAX && table.trackers[number].is_open)
        number++;
    if (number < FLK_TRACKERS_MAX)
        table.trackers[number] =
            (tracker){.is_open = true,
                      .events = {.entry_bytes = sizeof(flk_object_event),
                                 .entries_max = FLK_OBJECT_EVENTS_MAX}};
    unlock();
    return number < FLK_TRACKERS_MAX ? number : -1;
}

void flk_object_table_close(int number) {
    tracker *t = locked(number);
    table_drop(t);
    table.waiting -= flk_queue_count(&t->events);
    flk_queue_clear(&t->events);
    t->is_open = false;
    unlock();
}

static void forget_all(tracker *t) {
    FLK_ASSERT(t->count <= t->capacity);
    table_drop(t);
    memset(t->counts, 0, sizeof t->counts);
}

// After a removal the same place is checked again, because a later entry may
// have moved into it.
static void forget_class(tracker *t, uint16_t class_index) {
    FLK_ASSERT(class_index < FLK_CLASSES_MAX);
    for (uint32_t i = 0; i < t->capacity;) {
        bool goes =
            t->objects[i].address && t->objects[i].class_index == class_index;
        if (goes)
            empty_place(t, i);
        else
            i++;
    }
    t->counts[class_index] = (flk_object_counts){0, 0};
}

void flk_object_table_forget(int number, uint16_t class_index) {
    FLK_ASSERT(class_index <= FLK_CLASSES_MAX);
    tracker *t = locked(number);
    if (class_index == FLK_CLASSES_MAX) {
        forget_all(t);
    } else {
        forget_class(t, class_index);
        shrink(t);
    }
    unlock();
}

// --- reading -----------------------------------------------------------
flk_object_counts flk_object_table_counts(int number, uint16_t class_index) {
    FLK_ASSERT(class_index < FLK_CLASSES_MAX);
    flk_object_counts counts = locked(number)->counts[class_index];
    unlock();
    return counts;
}

void flk_object_table_visit(int number, flk_object_table_visitor visit,
                            void *context) {
    FLK_ASSERT(visit != NULL);
    const tracker *t = locked(number);
    for (uint32_t i = 0; i < t->capacity; i++)
        if (t->objects[i].address)
            visit(&t->objects[i], context);
    unlock();
}

void flk_object_table_read(int number, flk_object_table_figures *out) {
    FLK_ASSERT(out != NULL);
    const tracker *t = locked(number);
    *out = (flk_object_table_figures){
        .entries = t->count,
        .capacity = t->capacity,
        .bytes = (t->objects ? bytes_for(t->capacity) : 0) +
                 t->events.capacity * t->events.entry_bytes,
        .dropped = t->dropped,
        .waiting = flk_queue_count(&t->events)};
    unlock();
}

// --- checking ----------------------------------------------------------
static bool is_sound(const tracker *t) {
    FLK_ASSERT(t->is_open);
    uint64_t found[FLK_CLASSES_MAX] = {0}, count = 0;
    for (uint32_t i = 0; i < t->capacity; i++) {
        const flk_object *object = &t->objects[i];
        if (!object->address)
            continue;
        count++;
        found[object->class_index]++;
        if (place_of(t, object->address) != i)
            return false;
    }
    for (uint32_t i = 0; i < FLK_CLASSES_MAX; i++)
        if (t->counts[i].made - t->counts[i].freed != found[i])
            return false;
    return count == t->count && (t->count == 0 || t->count < t->capacity);
}

bool flk_object_table_check(void) {
    bool good = true;
    flk_lock_take(&table.lock);
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        good = good &&
               (!table.trackers[i].is_open || is_sound(&table.trackers[i]));
    unlock();
    return good;
}

void flk_object_table_lock_all(void) { flk_lock_take(&table.lock); }
void flk_object_table_unlock_all(void) { flk_lock_release(&table.lock); }

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
    uint32_t capacity, count;  // places, a power of two; those in use
    flk_object *objects;
    uint64_t dropped;
    flk_queue events;
    bool told[FLK_CLASSES_MAX];
    flk_object_counts counts[FLK_CLASSES_MAX];
} tracker;

static struct {
    flk_lock lock;  // guards the rest
    tracker trackers[FLK_TRACKERS_MAX];
    atomic_ullong waiting;  // events in all queues; relaxed: a hint
} living = {.lock = FLK_LOCK_INIT(FLK_RANK_OBJECT_TABLE)};

static tracker *held(int number) {
    FLK_ASSERT(number >= 0 && number < FLK_TRACKERS_MAX);
    flk_lock_take(&living.lock);
    return &living.trackers[number];
}

static void let_go(void) { flk_lock_release(&living.lock); }

// --- the table ---------------------------------------------------------
static uint32_t home_of(const tracker *t, uint64_t address) {
    return (uint32_t)(flk_hash_mix(address) & (t->capacity - 1));
}

// Where it is, or the empty place where it belongs.
static uint32_t place_of(const tracker *t, uint64_t address) {
    uint32_t i = home_of(t, address);
    while (t->objects[i].address && t->objects[i].address != address)
        i = (i + 1) & (t->capacity - 1);
    return i;
}

static size_t bytes_for(uint32_t capacity) {
    size_t page = flk_platform_page_bytes();
    return (capacity * sizeof(flk_object) + page - 1) & ~(page - 1);
}

static void table_drop(tracker *t) {
    if (t->objects)
        flk_platform_pages_unmap(t->objects, bytes_for(t->capacity));
    t->objects = NULL;
    t->capacity = t->count = 0;
}

// The table is as it was if there is no memory.
static bool resize(tracker *t, uint32_t capacity) {
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

// A full table would be searched for ever: one place stays empty.
static bool has_room(tracker *t) {
    if (t->capacity == 0)
        return resize(t, CAPACITY_MIN);
    if (t->count < t->capacity / 4 * 3)
        return true;
    bool grown = t->capacity < UINT32_C(1) << 30 && resize(t, t->capacity * 2);
    return grown || t->count + 1 < t->capacity;
}

// Whoever stands behind and may come nearer to its home, does.
static void empty_place(tracker *t, uint32_t hole) {
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
    if (t->capacity > CAPACITY_MIN && t->count < t->capacity / 8)
        resize(t, t->capacity / 2);  // without memory it stays
}

// --- events ------------------------------------------------------------
static bool push(tracker *t, const flk_object *object, uint16_t what) {
    flk_object_event event = {object->sequence, object->class_index, what};
    bool pushed = flk_queue_push(&t->events, &event);
    t->dropped += !pushed;
    living.waiting += pushed;
    return pushed;
}

static void free_at(tracker *t, uint32_t place) {
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
        t->told[object->class_index] && push(t, object, FLK_OBJECT_MADE);
    t->counts[object->class_index].made++;
    t->count++;
    return true;
}

bool flk_object_table_add(int number, const flk_object *object) {
    bool added = add(held(number), object);
    let_go();
    return added;
}

bool flk_object_table_take(int number, uint64_t address) {
    tracker *t = held(number);
    uint32_t place = t->count ? place_of(t, address) : 0;
    bool found = t->count && t->objects[place].address;
    if (found) {
        free_at(t, place);
        shrink(t);
    }
    let_go();
    return found;
}

bool flk_object_table_has(int number, uint64_t address) {
    const tracker *t = held(number);
    bool found = t->count && t->objects[place_of(t, address)].address;
    let_go();
    return found;
}

void flk_object_table_tell(int number, uint16_t class_index, bool on) {
    held(number)->told[class_index] = on;
    let_go();
}

bool flk_object_table_next_event(int number, flk_object_event *out) {
    bool found = flk_queue_pop(&held(number)->events, out);
    living.waiting -= found;
    let_go();
    return found;
}

bool flk_object_table_waits(void) {
    return atomic_load_explicit(&living.waiting, memory_order_relaxed) > 0;
}

// --- life --------------------------------------------------------------
int flk_object_table_open(void) {
    flk_lock_take(&living.lock);
    int number = 0;
    while (number < FLK_TRACKERS_MAX && living.trackers[number].is_open)
        number++;
    if (number < FLK_TRACKERS_MAX)
        living.trackers[number] =
            (tracker){.is_open = true,
                      .events = {.entry_bytes = sizeof(flk_object_event),
                                 .entries_max = FLK_OBJECT_EVENTS_MAX}};
    let_go();
    return number < FLK_TRACKERS_MAX ? number : -1;
}

void flk_object_table_close(int number) {
    tracker *t = held(number);
    table_drop(t);
    living.waiting -= flk_queue_count(&t->events);
    flk_queue_clear(&t->events);
    t->is_open = false;
    let_go();
}

static void forget_all(tracker *t) {
    table_drop(t);
    memset(t->counts, 0, sizeof t->counts);
}

// From behind: a removal moves only what stands behind it, or what wrapped
// around, which is looked at again.
static void forget_class(tracker *t, uint16_t class_index) {
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
    tracker *t = held(number);
    if (class_index == FLK_CLASSES_MAX) {
        forget_all(t);
    } else {
        forget_class(t, class_index);
        shrink(t);
    }
    let_go();
}

// --- reading -----------------------------------------------------------
flk_object_counts flk_object_table_counts(int number, uint16_t class_index) {
    flk_object_counts counts = held(number)->counts[class_index];
    let_go();
    return counts;
}

void flk_object_table_visit(int number, flk_object_table_visitor visit,
                            void *context) {
    const tracker *t = held(number);
    for (uint32_t i = 0; i < t->capacity; i++)
        if (t->objects[i].address)
            visit(&t->objects[i], context);
    let_go();
}

void flk_object_table_read(int number, flk_object_table_figures *out) {
    const tracker *t = held(number);
    *out = (flk_object_table_figures){
        .entries = t->count,
        .capacity = t->capacity,
        .bytes = (t->objects ? bytes_for(t->capacity) : 0) +
                 t->events.capacity * t->events.entry_bytes,
        .dropped = t->dropped,
        .waiting = flk_queue_count(&t->events)};
    let_go();
}

// --- checking ----------------------------------------------------------
static bool is_sound(const tracker *t) {
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
    flk_lock_take(&living.lock);
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        good = good &&
               (!living.trackers[i].is_open || is_sound(&living.trackers[i]));
    let_go();
    return good;
}

void flk_object_table_lock_all(void) { flk_lock_take(&living.lock); }
void flk_object_table_unlock_all(void) { flk_lock_release(&living.lock); }

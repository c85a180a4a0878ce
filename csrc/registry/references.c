// references.c - a table of counts. Contract: registry/references.h.      SPDX-License-Identifier: MIT
#include "registry/references.h"

#include <stddef.h>

#include "base/hash.h"
#include "base/platform.h"

typedef struct counted {
    uint64_t address;  // 0: an empty place
    uint64_t more;     // references beside the first
} counted;

enum { COUNTED_MIN = 256, COUNTED_MAX = 1 << 26 };  // places; a page, 1 GiB
_Static_assert((COUNTED_MIN & (COUNTED_MIN - 1)) == 0, "a power of two");

static struct {
    flk_lock lock;  // guards the rest
    counted *places;
    uint32_t capacity;  // a power of two, or 0
} references = {.lock = FLK_LOCK_INIT(FLK_RANK_REFERENCES)};

atomic_uint flk_references_objects;

static uint32_t used(void) {
    FLK_ASSERT(references.lock.word);
    return atomic_load_explicit(&flk_references_objects, memory_order_relaxed);
}

static void set_used(uint32_t count) {
    FLK_ASSERT(count < references.capacity);
    atomic_store_explicit(&flk_references_objects, count, memory_order_relaxed);
}

static uint32_t first_place(uint64_t address, uint32_t capacity) {
    FLK_ASSERT(capacity && (capacity & (capacity - 1)) == 0);
    return (uint32_t)(flk_hash_mix(address) & (capacity - 1));
}

// The place of the address, or the empty place where it belongs.
static counted *counted_at(counted *places, uint32_t capacity,
                           uint64_t address) {
    FLK_ASSERT(places && address);
    uint32_t i = first_place(address, capacity);
    while (places[i].address && places[i].address != address)
        i = (i + 1) & (capacity - 1);
    return &places[i];
}

static size_t counted_bytes(uint32_t capacity) {
    FLK_ASSERT(capacity > 0);
    return flk_platform_pages_for(capacity * sizeof(counted));
}

// False without memory; the table is then unchanged.
static bool counted_resize(uint32_t capacity) {
    FLK_ASSERT(used() < capacity);
    counted *made = flk_platform_pages_map(counted_bytes(capacity),
                                           flk_platform_page_bytes());
    if (!made)
        return false;
    for (uint32_t i = 0; i < references.capacity; i++)
        if (references.places[i].address)
            *counted_at(made, capacity, references.places[i].address) =
                references.places[i];
    if (references.places)
        flk_platform_pages_unmap(references.places,
                                 counted_bytes(references.capacity));
    references.places = made;
    references.capacity = capacity;
    return true;
}

static bool has_place(void) {
    FLK_ASSERT(used() <= references.capacity);
    if (!references.capacity)
        return counted_resize(COUNTED_MIN);
    if (used() < references.capacity / 4 * 3)
        return true;
    bool grown = references.capacity < COUNTED_MAX &&
                 counted_resize(references.capacity * 2);
    return grown || used() + 1 < references.capacity;
}

// A later entry moves back when its home position allows it (backward-shift
// deletion).
static void remove_counted(counted *at) {
    FLK_ASSERT(at->address && used());
    uint32_t mask = references.capacity - 1;
    uint32_t hole = (uint32_t)(at - references.places);
    for (uint32_t i = (hole + 1) & mask; references.places[i].address;
         i = (i + 1) & mask) {
        uint64_t address = references.places[i].address;
        uint32_t from_home =
            (i - first_place(address, references.capacity)) & mask;
        if (from_home < ((i - hole) & mask))
            continue;
        references.places[hole] = references.places[i];
        hole = i;
    }
    references.places[hole] = (counted){0, 0};
    set_used(used() - 1);
    if (references.capacity > COUNTED_MIN && used() < references.capacity / 8)
        counted_resize(references.capacity / 2);
}

// The entry of the address, with the lock held; NULL if there is none.
static counted *counted_of(uint64_t address) {
    FLK_ASSERT(address);
    if (!used())
        return NULL;
    counted *at = counted_at(references.places, references.capacity, address);
    return at->address ? at : NULL;
}

bool flk_references_add(uint64_t address) {
    FLK_ASSERT(address);
    flk_lock_take(&references.lock);
    counted *at = counted_of(address);
    bool is_added = at || has_place();
    if (is_added && !at) {
        at = counted_at(references.places, references.capacity, address);
        *at = (counted){address, 0};
        set_used(used() + 1);
    }
    if (is_added)
        at->more++;
    flk_lock_release(&references.lock);
    return is_added;
}

bool flk_references_drop(uint64_t address) {
    FLK_ASSERT(address);
    if (!atomic_load_explicit(&flk_references_objects, memory_order_relaxed))
        return false;
    flk_lock_take(&references.lock);
    counted *at = counted_of(address);
    if (at && --at->more == 0)
        remove_counted(at);
    flk_lock_release(&references.lock);
    return at != NULL;
}

void flk_references_forget(uint64_t address) {
    FLK_ASSERT(address);
    if (!atomic_load_explicit(&flk_references_objects, memory_order_relaxed))
        return;
    flk_lock_take(&references.lock);
    counted *at = counted_of(address);
    if (at)
        remove_counted(at);
    flk_lock_release(&references.lock);
}

bool flk_references_check(void) {
    uint32_t count = 0;
    bool is_sound = true;
    flk_lock_take(&references.lock);
    for (uint32_t i = 0; i < references.capacity; i++) {
        const counted *at = &references.places[i];
        if (!at->address)
            continue;
        count++;
        is_sound &= at->more > 0 && counted_of(at->address) == at;
    }
    is_sound &= count == used();
    flk_lock_release(&references.lock);
    return is_sound;
}

void flk_references_lock_all(void) { flk_lock_take(&references.lock); }
void flk_references_unlock_all(void) { flk_lock_release(&references.lock); }

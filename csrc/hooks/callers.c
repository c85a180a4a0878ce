// callers.c - a sorted table under a sequence lock. Contract: hooks/callers.h.  SPDX-License-Identifier: MIT
#include "hooks/callers.h"

#include <stdatomic.h>

#include "base/config.h"
#include "base/platform.h"

// In the lowest bits of an address, which are no part of a function.
enum { TRIES = 1000, KIND_BITS = 7 };
_Static_assert(FLK_CALLER_COUNT <= KIND_BITS + 1, "they hold a kind");

typedef struct range {
    atomic_uintptr_t begin;  // with its kind; relaxed, inside the versions
    atomic_uintptr_t end;
} range;

static struct {
    // Odd while the table is being changed, which is done under
    // FLK_RANK_ATTACH: the child of a fork finds a whole table.
    atomic_uint version;
    atomic_uint count;
    atomic_bool has_traced_cxx;  // relaxed
    range ranges[FLK_OBJECTS_MAX];
    // The next table, while it is added to: FLK_RANK_ATTACH.
    uint32_t next_count, left_out;
    uintptr_t next[FLK_OBJECTS_MAX][2];
} callers;

static uintptr_t load(const atomic_uintptr_t *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}

// The last range that begins at or before the address.
static flk_caller search(uintptr_t address) {
    uint32_t low = 0;
    uint32_t high = atomic_load_explicit(&callers.count, memory_order_relaxed);
    FLK_ASSERT(high <= FLK_OBJECTS_MAX);
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if ((load(&callers.ranges[middle].begin) & ~(uintptr_t)KIND_BITS) <=
            address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || address >= load(&callers.ranges[low - 1].end))
        return FLK_CALLER_UNKNOWN;
    return (flk_caller)(load(&callers.ranges[low - 1].begin) & KIND_BITS);
}

// Code, not data: valid in the child of a fork.
static _Atomic(flk_late (*)(unsigned)) notice_late_objects;
static _Atomic(flk_caller (*)(uintptr_t)) find_late_object;

void flk_callers_set_late_objects(flk_late (*notice)(unsigned),
                                  flk_caller (*find)(uintptr_t)) {
    atomic_store(&notice_late_objects, notice);
    atomic_store(&find_late_object, find);
}

flk_caller flk_callers_listed(uintptr_t address) {
    for (int i = 0; i < TRIES; i++) {
        unsigned before =
            atomic_load_explicit(&callers.version, memory_order_acquire);
        flk_caller found = search(address);
        atomic_thread_fence(memory_order_acquire);
        if (!(before & 1) &&
            before ==
                atomic_load_explicit(&callers.version, memory_order_relaxed))
            return found;
    }
    return FLK_CALLER_UNKNOWN;
}

uint32_t flk_callers_version(void) {
    return atomic_load_explicit(&callers.version, memory_order_acquire) | 1;
}

flk_late flk_callers_notice(unsigned function) {
    flk_late (*notice)(unsigned) = atomic_load(&notice_late_objects);
    return notice ? notice(function) : FLK_LATE_NO;
}

flk_caller flk_callers_find(uintptr_t address) {
    flk_caller found = flk_callers_listed(address);
    flk_caller (*find)(uintptr_t) = atomic_load(&find_late_object);
    return found == FLK_CALLER_UNKNOWN && find ? find(address) : found;
}

void flk_callers_begin(void) { callers.next_count = callers.left_out = 0; }

void flk_callers_add(uintptr_t begin, uintptr_t end, flk_caller kind) {
    FLK_ASSERT(begin < end && kind < FLK_CALLER_COUNT);
    begin &= ~(uintptr_t)KIND_BITS;
    if (callers.next_count == FLK_OBJECTS_MAX) {
        callers.left_out++;
        return;
    }
    uint32_t i = callers.next_count++;
    for (; i > 0 && callers.next[i - 1][0] > begin; i--) {
        callers.next[i][0] = callers.next[i - 1][0];
        callers.next[i][1] = callers.next[i - 1][1];
    }
    callers.next[i][0] = begin | (uintptr_t)kind;
    callers.next[i][1] = end;
}

static bool is_the_same(void) {
    FLK_ASSERT(callers.next_count <= FLK_OBJECTS_MAX);
    bool same = callers.next_count == atomic_load(&callers.count);
    for (uint32_t i = 0; same && i < callers.next_count; i++)
        same = load(&callers.ranges[i].begin) == callers.next[i][0] &&
               load(&callers.ranges[i].end) == callers.next[i][1];
    return same;
}

bool flk_callers_have_traced_cxx(void) {
    return atomic_load_explicit(&callers.has_traced_cxx, memory_order_relaxed);
}

void flk_callers_end(bool has_traced_cxx) {
    atomic_store(&callers.has_traced_cxx, has_traced_cxx);
    if (is_the_same())
        return;
    unsigned version = atomic_load(&callers.version);
    FLK_ASSERT(!(version & 1) && callers.next_count <= FLK_OBJECTS_MAX);
    atomic_store_explicit(&callers.version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (uint32_t i = 0; i < callers.next_count; i++) {
        atomic_store_explicit(&callers.ranges[i].begin, callers.next[i][0],
                              memory_order_relaxed);
        atomic_store_explicit(&callers.ranges[i].end, callers.next[i][1],
                              memory_order_relaxed);
    }
    atomic_store_explicit(&callers.count, callers.next_count,
                          memory_order_relaxed);
    atomic_store_explicit(&callers.version, version + 2, memory_order_release);
}

uint32_t flk_callers_count(void) { return atomic_load(&callers.count); }

uint32_t flk_callers_left_out(void) { return callers.left_out; }

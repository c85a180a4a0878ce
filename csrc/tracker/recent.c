// recent.c - rings of recent frees. Contract: tracker/recent.h.              SPDX-License-Identifier: MIT
#include "tracker/recent.h"

#include <string.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/hash.h"

// The entries, and an index by address. heads[bucket] is the newest number of the
// bucket plus 1, or 0 if there is none. The link of an entry is the next older
// number of the bucket plus 1. A number that has been overwritten in the ring
// ends its chain, so entries are never unlinked.
typedef struct ring {
    flk_free entries[FLK_RECENT_ENTRIES];
    // Also read without the lock. Relaxed: if a thread has learned from another
    // thread that an address was freed, their synchronisation orders the load
    // after the store.
    atomic_ullong heads[FLK_RECENT_ENTRIES];
} ring;

typedef struct stripe {
    _Alignas(64) flk_lock lock;  // guards all fields
    uint64_t next;               // the next free goes to next % ENTRIES
    uint64_t held;  // number of the first held entry; next - held are held
    uint64_t held_bytes;
    _Atomic(ring *) ring;  // made on first use
} stripe;

static struct {
    stripe stripes[FLK_RECENT_STRIPES];
    // A bit for each stripe with a ring. Stored with release order.
    atomic_uint used;
    // Relaxed. A changed limit takes effect with the next free.
    atomic_uint blocks_max;
    atomic_ullong bytes_max;
} recent = {
    .stripes = {[0 ... FLK_RECENT_STRIPES -
                 1] = {.lock = FLK_LOCK_INIT(FLK_RANK_RECENT)}},
    .blocks_max = FLK_QUARANTINE_BLOCKS_DEFAULT,
    .bytes_max = FLK_QUARANTINE_BYTES_DEFAULT,
};

_Static_assert((FLK_RECENT_ENTRIES & (FLK_RECENT_ENTRIES - 1)) == 0,
               "numbers wrap around");

void flk_recent_configure(flk_recent_limits limits) {
    if (limits.blocks_max > FLK_QUARANTINE_BLOCKS_MAX)
        limits.blocks_max = FLK_QUARANTINE_BLOCKS_MAX;
    atomic_store_explicit(&recent.blocks_max, limits.blocks_max,
                          memory_order_relaxed);
    atomic_store_explicit(&recent.bytes_max, limits.bytes_max,
                          memory_order_relaxed);
}

flk_recent_limits flk_recent_read_limits(void) {
    return (flk_recent_limits){
        atomic_load_explicit(&recent.blocks_max, memory_order_relaxed),
        atomic_load_explicit(&recent.bytes_max, memory_order_relaxed)};
}

// --- one stripe, with its lock held ------------------------------------
static flk_free *entry_at(const stripe *st, uint64_t number) {
    FLK_ASSERT(st != NULL && atomic_load(&st->ring) != NULL);
    ring *own = atomic_load_explicit(&st->ring, memory_order_acquire);
    return &own->entries[number % FLK_RECENT_ENTRIES];
}

static uint64_t held_count(const stripe *st) {
    FLK_ASSERT(st->held <= st->next);
    return st->next - st->held;
}

static ring *ring_of(const stripe *st) {
    FLK_ASSERT(st != NULL);
    return atomic_load_explicit(&st->ring, memory_order_acquire);
}

static bool entries_ready(stripe *st) {
    FLK_ASSERT(st >= recent.stripes);
    FLK_ASSERT(st < recent.stripes + FLK_RECENT_STRIPES);
    if (FLK_LIKELY(ring_of(st) != NULL))
        return true;
    ring *made = flk_arena_keep(sizeof(ring));
    if (!made)
        return false;
    atomic_store_explicit(&st->ring, made, memory_order_release);
    atomic_fetch_or_explicit(&recent.used, 1u << (st - recent.stripes),
                             memory_order_release);
    return true;
}

static uint32_t bucket_of(uint64_t address) {
    return (uint32_t)(flk_hash_key(address) >> 32) & (FLK_RECENT_ENTRIES - 1);
}

static FLK_HOT void enter(stripe *st, const flk_free *freed) {
    FLK_ASSERT(freed != NULL && ring_of(st) != NULL);
    ring *own = ring_of(st);
    uint64_t number = st->next++;
    atomic_ullong *head = &own->heads[bucket_of(freed->address)];
    flk_free *entry = &own->entries[number % FLK_RECENT_ENTRIES];
    // Copied field by field, for the reason given at flk_record_copy.
    entry->address = freed->address;
    entry->memory = freed->memory;
    flk_record_copy(&entry->record, &freed->record);
    entry->free_path = freed->free_path;
    entry->link = atomic_load_explicit(head, memory_order_relaxed);
    atomic_store_explicit(head, number + 1, memory_order_relaxed);
}

// Returns the entry of this address whose block is held, or NULL.
static const flk_free *held_of(const stripe *st, uint64_t address) {
    FLK_ASSERT(ring_of(st) != NULL);
    uint64_t number = atomic_load_explicit(
        &ring_of(st)->heads[bucket_of(address)], memory_order_relaxed);
    while (number && st->next - (number - 1) <= held_count(st)) {
        const flk_free *entry = entry_at(st, number - 1);
        if (entry->address == address && entry->memory)
            return entry;
        number = entry->link;
    }
    return NULL;
}

// Called without the lock. Returns true if the bucket is empty.
static bool is_surely_absent(const stripe *st, uint32_t bucket) {
    FLK_ASSERT(bucket < FLK_RECENT_ENTRIES);
    return !atomic_load_explicit(&ring_of(st)->heads[bucket],
                                 memory_order_relaxed);
}

// Returns a bit for each stripe that has a ring.
static uint32_t stripes_used(void) {
    return atomic_load_explicit(&recent.used, memory_order_acquire);
}

// Takes out the oldest held block. Its entry stays in the ring.
static FLK_HOT void release_oldest(stripe *st, flk_free *out, uint32_t *count) {
    FLK_ASSERT(held_count(st) > 0);
    FLK_ASSERT(out != NULL && count != NULL);
    flk_free *oldest = entry_at(st, st->held++);
    if (!oldest->memory)
        return;
    st->held_bytes -= oldest->record.size_bytes;
    flk_free *leaves = &out[(*count)++];
    if (FLK_UNLIKELY(oldest->record.flags & FLK_RECORD_POISONED))
        *leaves = *oldest;  // is checked before its memory is freed
    leaves->memory = oldest->memory;
    leaves->record.flags = oldest->record.flags;
    oldest->memory = NULL;
}

static bool is_over(const stripe *st, flk_recent_limits limits) {
    FLK_ASSERT(limits.blocks_max <= FLK_RECENT_ENTRIES);
    return held_count(st) > limits.blocks_max ||
           st->held_bytes > limits.bytes_max;
}

uint32_t flk_recent_add(uint32_t thread_number, const flk_free *freed,
                        flk_free *out, uint32_t out_max) {
    FLK_ASSERT(freed != NULL && out != NULL);
    stripe *st = &recent.stripes[thread_number % FLK_RECENT_STRIPES];
    flk_recent_limits limits = flk_recent_read_limits();
    uint32_t count = 0;
    FLK_ASSERT(out_max >= 2);
    flk_lock_take(&st->lock);
    if (FLK_UNLIKELY(!entries_ready(st))) {
        out[count++] = *freed;
    } else {
        if (held_count(st) == FLK_RECENT_ENTRIES)
            release_oldest(st, out, &count);
        enter(st, freed);
        st->held_bytes += freed->record.size_bytes;
        while (count < out_max && is_over(st, limits))
            release_oldest(st, out, &count);
    }
    flk_lock_release(&st->lock);
    return count;
}

bool flk_recent_may_hold(uint64_t address) {
    FLK_ASSERT(address != 0);
    uint32_t left = stripes_used();
    if (FLK_LIKELY(!left))
        return false;
    uint32_t bucket = bucket_of(address);
    for (; left; left &= left - 1)
        if (!is_surely_absent(&recent.stripes[__builtin_ctz(left)], bucket))
            return true;
    return false;
}

// --- all stripes -------------------------------------------------------
bool flk_recent_find(uint64_t address, flk_free *out) {
    FLK_ASSERT(out != NULL);
    uint32_t bucket = bucket_of(address);
    bool found = false;
    for (uint32_t left = stripes_used(); left && !found; left &= left - 1) {
        stripe *st = &recent.stripes[__builtin_ctz(left)];
        if (is_surely_absent(st, bucket))
            continue;
        flk_thread_lock(&st->lock);
        const flk_free *entry = held_of(st, address);
        found = entry != NULL;
        if (found)
            *out = *entry;
        flk_thread_unlock(&st->lock);
    }
    return found;
}

uint32_t flk_recent_drain(flk_free *out, uint32_t out_max) {
    FLK_ASSERT(out != NULL && out_max > 0);
    uint32_t count = 0;
    for (uint32_t i = 0; i < FLK_RECENT_STRIPES; i++) {
        stripe *st = &recent.stripes[i];
        flk_thread_lock(&st->lock);
        while (count < out_max && held_count(st) > 0)
            release_oldest(st, out, &count);
        flk_thread_unlock(&st->lock);
    }
    return count;
}

void flk_recent_visit_held(void (*visit)(const flk_free *, void *),
                           void *context) {
    FLK_ASSERT(visit != NULL);
    for (uint32_t i = 0; i < FLK_RECENT_STRIPES; i++) {
        stripe *st = &recent.stripes[i];
        flk_thread_lock(&st->lock);
        for (uint64_t n = st->held; n != st->next; n++)
            if (entry_at(st, n)->memory)
                visit(entry_at(st, n), context);
        flk_thread_unlock(&st->lock);
    }
}

uint64_t flk_recent_held_count(void) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < FLK_RECENT_STRIPES; i++) {
        flk_thread_lock(&recent.stripes[i].lock);
        count += held_count(&recent.stripes[i]);
        flk_thread_unlock(&recent.stripes[i].lock);
    }
    return count;
}

uint64_t flk_recent_held_bytes(void) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < FLK_RECENT_STRIPES; i++) {
        flk_thread_lock(&recent.stripes[i].lock);
        bytes += recent.stripes[i].held_bytes;
        flk_thread_unlock(&recent.stripes[i].lock);
    }
    return bytes;
}

static bool stripe_check(const stripe *st) {
    uint64_t bytes = 0;
    for (uint64_t n = st->held; n != st->next; n++)
        if (entry_at(st, n)->memory)
            bytes += entry_at(st, n)->record.size_bytes;
    bool older_released = true;
    for (uint64_t n = st->next;
         ring_of(st) && n != st->held + FLK_RECENT_ENTRIES; n++)
        older_released &= entry_at(st, n)->memory == NULL;
    return bytes == st->held_bytes && older_released &&
           held_count(st) <= FLK_RECENT_ENTRIES;
}

bool flk_recent_check(void) {
    bool good = true;
    for (uint32_t i = 0; i < FLK_RECENT_STRIPES; i++) {
        flk_thread_lock(&recent.stripes[i].lock);
        good &= stripe_check(&recent.stripes[i]);
        flk_thread_unlock(&recent.stripes[i].lock);
    }
    return good;
}

void flk_recent_lock_all(void) {
    for (uint32_t i = 0; i < FLK_RECENT_STRIPES; i++)
        flk_thread_lock(&recent.stripes[i].lock);
}

void flk_recent_unlock_all(void) {
    for (uint32_t i = FLK_RECENT_STRIPES; i-- > 0;)
        flk_thread_unlock(&recent.stripes[i].lock);
}

// misuse.c - counters and ring. Contract: tracker/misuse.h.                  SPDX-License-Identifier: MIT
#include "tracker/misuse.h"

#include "base/platform.h"
#include "paths/thread.h"

enum { RING_ENTRIES = 64, KINDS = 8 };

static struct {
    flk_lock lock;  // guards ring, next and first
    uint32_t first, next;
    flk_misuse ring[RING_ENTRIES];
    atomic_ullong counts[KINDS];  // relaxed; indexed by -verdict
} misuses = {.lock = FLK_LOCK_INIT(FLK_RANK_RECENT)};

static atomic_ullong *count_of(int verdict) {
    FLK_ASSERT(verdict < 0 && -verdict < KINDS);
    return &misuses.counts[-verdict];
}

void flk_misuse_count(int verdict) {
    FLK_ASSERT(verdict > -KINDS);
    if (verdict < 0)
        atomic_fetch_add_explicit(count_of(verdict), 1, memory_order_relaxed);
}

uint64_t flk_misuse_counted(int verdict) {
    return atomic_load_explicit(count_of(verdict), memory_order_relaxed);
}

void flk_misuse_clear(void) {
    for (int kind = 1; kind < KINDS; kind++)
        atomic_store_explicit(&misuses.counts[kind], 0, memory_order_relaxed);
}

void flk_misuse_push(const flk_misuse *misuse) {
    FLK_ASSERT(misuse != NULL && misuse->verdict < 0);
    flk_thread_lock(&misuses.lock);
    FLK_ASSERT(misuses.next - misuses.first <= RING_ENTRIES);
    if (misuses.next - misuses.first == RING_ENTRIES)
        misuses.first++;
    misuses.ring[misuses.next++ % RING_ENTRIES] = *misuse;
    flk_thread_unlock(&misuses.lock);
}

bool flk_misuse_pop(flk_misuse *out) {
    FLK_ASSERT(out != NULL);
    flk_thread_lock(&misuses.lock);
    bool found = misuses.first != misuses.next;
    if (found)
        *out = misuses.ring[misuses.first++ % RING_ENTRIES];
    flk_thread_unlock(&misuses.lock);
    return found;
}

void flk_misuse_lock_all(void) { flk_thread_lock(&misuses.lock); }
void flk_misuse_unlock_all(void) { flk_thread_unlock(&misuses.lock); }

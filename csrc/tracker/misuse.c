// misuse.c - counters and ring. Contract: tracker/misuse.h.                  SPDX-License-Identifier: MIT
#include "tracker/misuse.h"

#include "base/config.h"
#include "base/platform.h"
#include "paths/thread.h"

enum { KINDS = 8 };

static struct {
    flk_lock lock;          // guards ring, first and count
    uint32_t first, count;  // the oldest one, and how many there are
    flk_misuse ring[FLK_MISUSES_MAX];
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
    FLK_ASSERT(misuses.count <= FLK_MISUSES_MAX);
    uint32_t place = (misuses.first + misuses.count) % FLK_MISUSES_MAX;
    misuses.ring[place] = *misuse;
    if (misuses.count < FLK_MISUSES_MAX)
        misuses.count++;
    else
        misuses.first = (misuses.first + 1) % FLK_MISUSES_MAX;
    flk_thread_unlock(&misuses.lock);
}

bool flk_misuse_pop(flk_misuse *out) {
    FLK_ASSERT(out != NULL);
    flk_thread_lock(&misuses.lock);
    bool found = misuses.count > 0;
    if (found) {
        *out = misuses.ring[misuses.first];
        misuses.first = (misuses.first + 1) % FLK_MISUSES_MAX;
        misuses.count--;
    }
    flk_thread_unlock(&misuses.lock);
    return found;
}

void flk_misuse_lock_all(void) { flk_thread_lock(&misuses.lock); }
void flk_misuse_unlock_all(void) { flk_thread_unlock(&misuses.lock); }

// sequence.c - dated sequence numbers. Contract: base/sequence.h.         SPDX-License-Identifier: MIT
#include "base/sequence.h"

#include <stdatomic.h>

#include "base/config.h"
#include "base/platform.h"

static struct {
    // Written once a block, so alone on its cache line. Relaxed: the numbers
    // do not order events. That one event is later than another follows from
    // other synchronisation (the GIL, a lock).
    _Alignas(64) atomic_ullong next;
    _Alignas(64) atomic_ullong epoch;  // relaxed; read by each event
    uint64_t clock_start, wall_start;
} sequence;

void flk_sequence_init(void) {
    sequence.clock_start = flk_platform_clock_coarse();
    sequence.wall_start = flk_platform_clock_wall();
    FLK_ASSERT(sequence.clock_start > 0 && sequence.wall_start > 0);
    atomic_store(&sequence.next, UINT64_C(1) << FLK_TICK_SEQUENCE_SHIFT);
}

uint64_t flk_sequence_tick(void) {
    return ((flk_platform_clock_coarse() - sequence.clock_start) >>
            FLK_TICK_SHIFT) +
           1;
}

// Takes `count` numbers and returns the first one. None of them is below the
// first number of the tick.
static uint64_t numbers_take(uint64_t tick, uint64_t count) {
    FLK_ASSERT(tick > 0 && count > 0);
    uint64_t floor = tick << FLK_TICK_SEQUENCE_SHIFT;
    uint64_t first;
    unsigned long long next =  // the plain type of the atomic, for clang
        atomic_load_explicit(&sequence.next, memory_order_relaxed);
    do {
        first = next > floor ? next : floor;
    } while (!atomic_compare_exchange_weak_explicit(
        &sequence.next, &next, first + count, memory_order_relaxed,
        memory_order_relaxed));
    return first;
}

static FLK_NOINLINE void block_open(flk_sequence_block *block, uint64_t tick) {
    // Acquire: the mark that began this epoch took its number before this
    // block takes its numbers.
    block->epoch = atomic_load_explicit(&sequence.epoch, memory_order_acquire);
    block->next = numbers_take(tick, FLK_SEQUENCE_BLOCK);
    block->end = block->next + FLK_SEQUENCE_BLOCK;
    block->tick = tick;
}

uint64_t flk_sequence_take(flk_sequence_block *block, uint64_t tick) {
    uint64_t epoch =
        atomic_load_explicit(&sequence.epoch, memory_order_relaxed);
    if (FLK_UNLIKELY(block->next == block->end || block->tick != tick ||
                     block->epoch != epoch))
        block_open(block, tick);
    FLK_ASSERT(block->next < block->end);
    return block->next++;
}

uint64_t flk_sequence_mark(void) {
    // The number is taken first, so every block that is opened in the new
    // epoch lies above it. A block opened in between lies above it as well; it
    // is retired earlier than necessary.
    uint64_t mark = numbers_take(flk_sequence_tick(), 1);
    atomic_fetch_add(&sequence.epoch, 1);
    return mark;
}

static uint64_t clock_of(uint64_t number) {
    FLK_ASSERT(number >> FLK_TICK_SEQUENCE_SHIFT > 0);
    return ((number >> FLK_TICK_SEQUENCE_SHIFT) - 1) << FLK_TICK_SHIFT;
}

uint64_t flk_sequence_wall_time(uint64_t number) {
    return sequence.wall_start + clock_of(number);
}

uint64_t flk_sequence_age(uint64_t number) {
    uint64_t since_start = flk_platform_clock_coarse() - sequence.clock_start;
    uint64_t then = clock_of(number);
    return since_start > then ? since_start - then : 0;
}

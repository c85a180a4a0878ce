// pause.h - addresses that a thread released in a pause, and that no record has.  SPDX-License-Identifier: MIT
// Keeps:   FLK_ABSENT_PLACES addresses of each thread, found by the address, each with the epoch it is valid in. The
//          epoch changes with the state of the hooks and with each record that is made or moved in a pause.
// Idea:    in a pause a program gets and releases the same addresses again and again. That they have no record takes a
//          lock and a probe to find out, once.
// Cost:    has: some loads. note: some stores.
// Callers: hooks/bodies.c, before the memory is given to the original function.
// Fails:   never: what is not found is looked up.
// Invariant: while the hooks are paused, no record of the heap has an address that `has` finds. A thread that records a
//            block at the address got it from the C library after this thread had released it, so it sees the pause, and
//            changes the epoch before it passes the block on. A thread that sees the pause after it saw the hooks on
//            sees the epoch of this pause.
#ifndef FLK_PAUSE_H
#define FLK_PAUSE_H

#include "hooks/stub_table.h"

#ifdef FLK_HAS_ELF
#include "base/hash.h"
#include "paths/thread.h"

// An entry has an address and the lower 16 bits of the epoch. The other bits
// are the era of all entries of a thread.
enum { FLK_ABSENT_EPOCH_SHIFT = 48, FLK_ABSENT_ERA_SHIFT = 16 };

static inline uint64_t flk_pause_era(uint64_t epoch) {
    return (epoch >> FLK_ABSENT_ERA_SHIFT) + 1;
}

static inline uint64_t flk_pause_entry(uintptr_t address, uint64_t epoch) {
    FLK_ASSERT(address >> FLK_ABSENT_EPOCH_SHIFT == 0);
    return address | epoch << FLK_ABSENT_EPOCH_SHIFT;
}

static inline uint32_t flk_pause_place(uintptr_t address) {
    FLK_ASSERT(address != 0);
    return (uint32_t)(flk_hash_key(address) /
                      (UINT64_MAX / FLK_ABSENT_PLACES + 1));
}

// Whether the hooks are paused, and no record has the address.
static FLK_HOT bool flk_pause_has(uintptr_t address) {
    FLK_ASSERT(address != 0);
    const flk_thread *thread = flk_platform_thread_pointer();
    if (atomic_load_explicit(&flk_stub_table_now.state, memory_order_acquire) !=
            FLK_HOOKS_PAUSED ||
        FLK_UNLIKELY(!thread || address >> FLK_ABSENT_EPOCH_SHIFT))
        return false;
    uint64_t epoch =
        atomic_load_explicit(&flk_stub_table_now.epoch, memory_order_relaxed);
    return thread->absent[flk_pause_place(address)] ==
               flk_pause_entry(address, epoch) &&
           thread->absent_era == flk_pause_era(epoch);
}

// An address without a record is being released.
void flk_pause_note(uintptr_t address);
#endif
#endif

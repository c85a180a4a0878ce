// young.h - recent blocks of each thread, in front of the registry.       SPDX-License-Identifier: MIT
// Keeps:   a table of slots, shared by all threads. The slot of a block follows from its address. A slot has a key and a
//          record. The key holds the seat of the thread that owns the slot, an address, and whether a block is live
//          there. The owner writes its slots without a locked instruction.
// Idea:    most blocks die young, and most addresses are given out again by the thread that freed them. When a thread
//          frees a block that it made, and the registry held the record, the slot notes the address as free. The next
//          block at this address is recorded in the slot alone, and so is its end. No record is put here for later.
// Cost:    an event in a slot: no lock, one cache line. An event beside it: one load more than without the table, and
//          a few stores for a free. flk_young_stop: a system call, and the events in progress.
// Callers: registry/registry.c, registry/registry_hot.h, inside the guard. What is above the registry knows nothing of
//          this table. Lock rank: FLK_RANK_YOUNG, before FLK_RANK_SHARD.
// Fails:   without memory in the registry a record stays in its slot, where every function finds it.
// Protocol: an owner sets `young_busy`, and after a compiler fence reads flk_young.closed. If it is set, the owner goes
//          by the lock. Another thread takes the lock, sets flk_young.closed, makes all threads pass a fence
//          (membarrier), and waits until no thread is busy. Until flk_young_go it may read and write all slots. So
//          either the owner sees `closed`, or the other thread sees `busy`. Without the fence no thread gets a seat.
//          A thread uses slots while its seat is on. Its seat is turned off, and its slots are emptied, when another
//          thread needs its block, or when it finds too few blocks there. While no seat is on, an event reads one
//          word (flk_young.users) and no slot.
// Invariant: 1. The key of a slot that has an owner is changed by the owner while it is busy, or by the holder of the
//            lock while the table is closed. One exception: any thread may replace "a is free" by "no address" with a
//            compare and swap, when it records a block at `a` elsewhere. The owner cannot record `a` at that time,
//            because the block is not its own.
//            2. If a key holds an address, live or free, no shard has a record of it that is not moving. So a record
//            of an older block, whose free was missed, cannot hide behind a slot.
//            3. A record only moves from a slot to a shard. It is in the shard before the key is changed. So a
//            thread that reads the slot first and the shard after it finds the record.
//            4. A thread that frees or records a block at `a` sees the last key that has `a`: the block was passed to
//            it, by its program or by the C library, and that orders the memory of the threads.
//            Checked by flk_young_check().
// Source:  biased locks with an asymmetric fence: Dice, Huang, Yang, "Asymmetric Dekker Synchronization", 2001.
#ifndef FLK_YOUNG_H
#define FLK_YOUNG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/platform.h"
#include "paths/thread.h"
#include "registry/registry.h"

typedef struct flk_young_slot {
    // 44 bits for address / 16, FLK_YOUNG_LIVE, and the seat of the owner.
    // Address 0: none. 0: no owner.
    atomic_ullong key;
    flk_record record;
} flk_young_slot;

_Static_assert(sizeof(flk_young_slot) == 32, "two slots a cache line");

#define FLK_YOUNG_LIVE (UINT64_C(1) << 44)
#define FLK_YOUNG_NUMBER (FLK_YOUNG_LIVE - 1)
enum { FLK_YOUNG_SEAT_SHIFT = 48 };
// For benchmarks: without slots, to compare.
#ifdef FLK_NO_YOUNG
enum { FLK_YOUNG_IS_USED = 0 };
#else
enum { FLK_YOUNG_IS_USED = 1 };
#endif
// Only blocks of the usual level are kept here (registry/region.h).
enum { FLK_YOUNG_BYTES_MAX = 1023 };

extern flk_young_slot flk_young_slots[FLK_YOUNG_SLOTS];
extern struct flk_young_state {
    atomic_uint closed;
    // Threads that use their slots. 0: no slot has an address. A thread that
    // has a block sees what was counted before the block was passed to it.
    _Alignas(64) atomic_uint users;
} flk_young;

static inline bool flk_young_is_used(void) {
    return FLK_YOUNG_IS_USED &&
           atomic_load_explicit(&flk_young.users, memory_order_relaxed);
}

// The address without its lower four bits. An address that no slot can have, odd or
// above 48 bits, has a number above FLK_YOUNG_NUMBER.
static inline uint64_t flk_young_number(uint64_t address) {
    return address >> 4 | address << 60;
}

static inline flk_young_slot *flk_young_slot_of(uint64_t number) {
    return &flk_young_slots[(number ^ number >> FLK_YOUNG_SLOT_BITS) &
                            (FLK_YOUNG_SLOTS - 1)];
}

static inline uint64_t flk_young_key_of(const flk_young_slot *slot) {
    return atomic_load_explicit(&slot->key, memory_order_acquire);
}

static inline bool flk_young_is_at(uint64_t key, uint64_t number) {
    return (key & FLK_YOUNG_NUMBER) == number;
}

static inline bool flk_young_is_live(uint64_t key, uint64_t number) {
    return flk_young_is_at(key, number) && key & FLK_YOUNG_LIVE;
}

static FLK_HOT void flk_young_leave(flk_thread *thread) {
    FLK_ASSERT(thread == flk_platform_thread_pointer());
    atomic_store_explicit(&thread->young_busy, 0, memory_order_release);
}

// Makes the thread busy. False, and not busy: the table is closed, or the slot
// does not have this key any more.
static FLK_HOT bool flk_young_enter(flk_thread *thread,
                                    const flk_young_slot *slot, uint64_t key) {
    FLK_ASSERT(thread->inside && !atomic_load(&thread->young_busy));
    atomic_store_explicit(&thread->young_busy, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (FLK_LIKELY(
            !atomic_load_explicit(&flk_young.closed, memory_order_acquire)) &&
        FLK_LIKELY(flk_young_key_of(slot) == key))
        return true;
    flk_young_leave(thread);
    return false;
}

// --- events ------------------------------------------------------------
// Before a record is inserted elsewhere: no slot may have the address any more.
// A live record there is replaced, because its free was missed.
void flk_young_clear(flk_thread *thread, uint64_t number, flk_insertion how);

// Before a record that was moving counts again: no slot may call the address free.
void flk_young_forget_free(uint64_t number);

// Inserts the record into the slot of its address. False: not here, and no slot
// has this address now.
static FLK_HOT bool flk_young_insert(flk_thread *thread, uint64_t address,
                                     const flk_record *record,
                                     flk_insertion how) {
    FLK_ASSERT(record != NULL && how.replaced != NULL);
    if (!flk_young_is_used())
        return false;
    uint64_t number = flk_young_number(address);
    flk_young_slot *slot = flk_young_slot_of(number);
    uint64_t key = flk_young_key_of(slot);
    if (FLK_LIKELY(!flk_young_is_at(key, number)))
        return false;
    if (FLK_LIKELY(thread && key == (thread->young_tag | number)) &&
        FLK_LIKELY(record->size_bytes <= FLK_YOUNG_BYTES_MAX) &&
        FLK_LIKELY(flk_young_enter(thread, slot, key))) {
        flk_record_copy(&slot->record, record);
        how.on_insert(record, how.context);
        atomic_store_explicit(&slot->key, key | FLK_YOUNG_LIVE,
                              memory_order_release);
        flk_young_leave(thread);
        return true;
    }
    flk_young_clear(thread, number, how);
    return false;
}

// The record is not in a slot of this thread.
flk_taken flk_young_take_other(flk_thread *thread, uint64_t number,
                               flk_registry_judge judge, void *context,
                               flk_record *out);

// FLK_ABSENT: no slot has a live block at the address.
static FLK_HOT flk_taken flk_young_take(flk_thread *thread, uint64_t address,
                                        flk_registry_judge judge, void *context,
                                        flk_record *out) {
    FLK_ASSERT(judge != NULL && out != NULL);
    if (!flk_young_is_used())
        return FLK_ABSENT;
    uint64_t number = flk_young_number(address);
    flk_young_slot *slot = flk_young_slot_of(number);
    uint64_t key = flk_young_key_of(slot);
    if (FLK_LIKELY(!flk_young_is_at(key, number)))
        return FLK_ABSENT;
    if (FLK_LIKELY(thread &&
                   key == (thread->young_tag | FLK_YOUNG_LIVE | number)) &&
        FLK_LIKELY(flk_young_enter(thread, slot, key))) {
        flk_record_copy(out, &slot->record);
        flk_taken taken = judge(out, context) ? FLK_TAKEN : FLK_KEPT;
        if (FLK_LIKELY(taken == FLK_TAKEN)) {
            atomic_store_explicit(&slot->key, key & ~FLK_YOUNG_LIVE,
                                  memory_order_release);
            thread->young_hits++;
        }
        flk_young_leave(thread);
        return taken;
    }
    return key & FLK_YOUNG_LIVE
               ? flk_young_take_other(thread, number, judge, context, out)
               : FLK_ABSENT;
}

// Notes that the address is free: the registry had its record until now.
void flk_young_keep(flk_thread *thread, uint64_t number);

static FLK_HOT void flk_young_keep_own(flk_thread *thread, uint64_t address,
                                       const flk_record *record) {
    FLK_ASSERT(record != NULL);
    if (!thread || record->thread != (uint16_t)thread->number ||
        flk_young_number(address) > FLK_YOUNG_NUMBER)
        return;
    uint32_t skip =
        atomic_load_explicit(&thread->young_skip, memory_order_relaxed);
    if (skip > 0)
        atomic_store_explicit(&thread->young_skip, skip - 1,
                              memory_order_relaxed);
    else
        flk_young_keep(thread, flk_young_number(address));
}

bool flk_young_find(flk_thread *thread, uint64_t address, flk_record *out);
// As flk_registry_retype.
bool flk_young_retype(flk_thread *thread, uint64_t address, uint16_t type,
                      flk_registry_event on_change, void *context);
// The nearest live block that begins below the address and contains it.
bool flk_young_containing(flk_thread *thread, uint64_t address, flk_entry *out);
// As flk_registry_move_begin: the record goes to its shard, marked moving. Without
// memory it is lost, and the result is FLK_ABSENT.
flk_taken flk_young_move_begin(flk_thread *thread, uint64_t address,
                               flk_registry_judge judge, void *context,
                               flk_record *out);

// --- the whole table ---------------------------------------------------
// `gone` is told of a record that is lost for want of memory, or replaced in a
// shard by the record of its slot, which takes a program that frees a block twice
// at once.
void flk_young_init(void (*gone)(const flk_record *record, bool is_replaced));
// Between the two calls no owner is busy, and all slots may be read and written.
void flk_young_stop(void);
void flk_young_go(void);
// Visits the live records of a stopped table, from a sequence number on. Changes of
// `record` are kept.
void flk_young_visit_stopped(uint64_t since, flk_registry_visitor visit,
                             void *context);
uint64_t flk_young_count_stopped(void);
// In a copy of this process that has one thread, while the table is stopped: no
// other owner is waited for any more.
void flk_young_alone(void);
// In the child of a fork, after it: what vanished threads own goes to the shards.
void flk_young_forked(void);
// For tests: a thread takes slots again at once after another one needed its
// block.
void flk_young_never_aside(bool never);
// With all shards locked, and the table stopped.
bool flk_young_check_held(void);

#endif

// registry.h - which block is at this address, and which block contains it. SPDX-License-Identifier: MIT
// Keeps:   a record for each live block, by (address, layer). Blocks are grouped by the region of their address, of
//          4 KiB for small blocks (registry/region.h); regions are spread over shards by a hash (registry/shard.h).
//          Larger blocks belong to coarser levels, so that a containing block is at most a few regions away. The
//          address of a small block is not stored: region and granule tell it.
// Cost:    insert, find, take: one probe and one shard lock, O(1). An insert moves at most FLK_SHARD_REGIONS_MAX entries
//          of 16 bytes and 1,023 records, and maps at most two pieces of memory. A record has 24 bytes (32 from 1 KiB
//          on), a slot 9 bits more. There are no tombstones, and memory is given back.
// Callers: any thread, the GIL is not needed. Insert, take and move are parts of events: they are called inside the
//          thread's guard. The others may be called anywhere, and hold the guard. Lock rank: FLK_RANK_SHARD.
// Fails:   at a limit FLK_LIMIT, without a page FLK_NO_MEMORY; the table is unchanged then.
// Invariant: for each (address, layer) at most one record is not marked moving. A shard keeps at most one empty region.
//            Checked by flk_registry_check().
// Source:  grouping by page after the PointerMap of heaptrack; measurements in csrc/README.md.
#ifndef FLK_REGISTRY_H
#define FLK_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/config.h"
#include "base/platform.h"
#include "base/values.h"
#include "paths/thread.h"

typedef enum flk_record_flag {
    FLK_RECORD_MOVING = 1,     // a realloc is under way: only that may use it
    FLK_RECORD_FORGOTTEN = 2,  // by a reset: in no report, not in the books
    FLK_RECORD_POISONED = 4,   // held back, and filled with a pattern
    FLK_RECORD_FLAGS = 7,      // all of them
    // The bits from here on, of a guarded block: the logarithm of its lead,
    // the distance from its C memory to the block (tracker/guard.h).
    FLK_RECORD_LEAD_SHIFT = 3,
} flk_record_flag;

typedef struct flk_record {
    uint64_t size_bytes : 40;
    uint64_t scope : 24;
    uint64_t sequence : 56;
    uint64_t flags : 8;
    uint32_t path;
    uint16_t type;
    uint16_t thread;
} flk_record;

_Static_assert(sizeof(flk_record) == 24, "without the address");

// A record from its parts. Its three words are put together in registers;
// compilers write the bit fields of an initializer byte by byte.
static inline flk_record flk_record_of(uint64_t size_bytes, uint32_t scope,
                                       uint64_t sequence, uint8_t flags,
                                       uint32_t path, uint16_t type,
                                       uint16_t thread) {
    FLK_ASSERT(size_bytes <= FLK_SIZE_MAX && scope < FLK_SCOPES_MAX);
    FLK_ASSERT(sequence >> 56 == 0);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t words[3] = {size_bytes | (uint64_t)scope << 40,
                         sequence | (uint64_t)flags << 56,
                         path | (uint64_t)type << 32 | (uint64_t)thread << 48};
    flk_record record;
    memcpy(&record, words, sizeof record);
    return record;
#else
    return (flk_record){size_bytes, scope, sequence, flags, path, type, thread};
#endif
}

// The lead of a guarded block, a power of two from 2 to 2^31; 0: not guarded.
static inline size_t flk_record_lead(const flk_record *record) {
    if (FLK_LIKELY(record->flags <= FLK_RECORD_FLAGS))
        return 0;
    return (size_t)1 << (record->flags >> FLK_RECORD_LEAD_SHIFT);
}

static inline void flk_record_copy(flk_record *to, const flk_record *from) {
    FLK_ASSERT(to != from);
    // Word by word: a wider load of words that were just stored would wait for
    // the stores, because they cannot be forwarded to it.
    uint64_t *out = (uint64_t *)(void *)to;
    const uint64_t *in = (const uint64_t *)(const void *)from;
    out[0] = in[0];
    atomic_signal_fence(memory_order_acq_rel);
    out[1] = in[1];
    atomic_signal_fence(memory_order_acq_rel);
    out[2] = in[2];
}

// A record together with its key.
typedef struct flk_entry {
    uint64_t address;
    flk_record record;
    uint32_t layer;
} flk_entry;

void flk_registry_init(void);

// Called with the shard locked, right after a record went in or before it goes
// out. So code that holds all shards finds books and table in agreement.
typedef void (*flk_registry_event)(const flk_record *record, void *context);

// How a record enters the table. By value: inlined, it is constants.
typedef struct flk_insertion {
    flk_registry_event on_insert;  // of the new record
    flk_registry_event on_remove;  // of one that was at the address before
    void *context;                 // of both
    bool *replaced;                // out: was there one before?
} flk_insertion;

// Puts a record in. A record that is at the address already goes out first:
// its free was missed. `on_insert` is called exactly if the result is FLK_OK.
flk_status flk_registry_insert(flk_layer layer, uint64_t address,
                               const flk_record *record, flk_insertion how);

// Copies the record at exactly this address. Records that move are ignored.
bool flk_registry_find(flk_layer layer, uint64_t address, flk_record *out);

// Decides under the lock whether the record may go, and counts it if it may.
typedef bool (*flk_registry_judge)(const flk_record *record, void *context);
typedef enum flk_taken {
    FLK_ABSENT,  // no record at this address
    FLK_TAKEN,   // removed; `out` is the record
    FLK_KEPT,    // the judge returned false; `out` is a copy
} flk_taken;
flk_taken flk_registry_take(flk_layer layer, uint64_t address,
                            flk_registry_judge judge, void *context,
                            flk_record *out);

// Before the C function of a realloc: marks the record as moving, because
// another thread may be given its address while the C function runs.
flk_taken flk_registry_move_begin(flk_layer layer, uint64_t address,
                                  flk_registry_judge judge, void *context,
                                  flk_record *out);
// After a C function that failed: the mark goes.
void flk_registry_move_cancel(flk_layer layer, uint64_t address,
                              const flk_record *moving);
// After the C function: the block is at `new_address`, which may be the old
// one, with another size. At no time is the record in the table and not in the
// books, or the reverse. `how.on_insert` gets the record with its new size.
// Without memory, or with a size above FLK_SIZE_MAX, the record is lost, and
// goes through `how.on_remove`.
flk_status flk_registry_move(flk_layer layer, uint64_t old_address,
                             const flk_record *moving, uint64_t new_address,
                             uint64_t size_bytes, flk_insertion how);

// The live block that contains `address` and starts before it. A block that
// overlaps another one of its layer may not be found.
bool flk_registry_containing(flk_layer layer, uint64_t address, flk_entry *out);

// Visits the records of one shard, which is locked meanwhile.
typedef void (*flk_registry_visitor)(flk_entry *entry, void *context);
void flk_registry_visit_shard(uint32_t shard_index, flk_registry_visitor visit,
                              void *context);
uint64_t flk_registry_shard_count(uint32_t shard_index);
bool flk_registry_holds(flk_layer layer);  // any record? O(regions)
// For a visit of all shards, one after the other, which misses a record or sees
// it twice if it moves from one shard to another: true if any record moved
// between begin and end.
uint64_t flk_registry_watch_begin(void);
bool flk_registry_watch_end(uint64_t begun);

typedef struct flk_registry_stats {
    uint64_t record_count;
    uint64_t region_count;
    uint64_t record_capacity;  // slots of all chunks
    uint64_t longest_move;     // most entries and records that an insert moved
} flk_registry_stats;
void flk_registry_read_stats(flk_registry_stats *out);

bool flk_registry_check(void);  // every table and region is right; O(n)
void flk_registry_lock_all(void);
void flk_registry_unlock_all(void);
// With all shards held: visits all records. Changes of the record are kept.
void flk_registry_visit_held(flk_registry_visitor visit, void *context);

#endif

// registry.h - what is at this address, and which block contains it.     SPDX-License-Identifier: MIT
// Keeps:   a record for each live block, keyed by (address, layer). Blocks are grouped by the region their
//          address lies in (4 KiB for small ones); a region is a bit and a granule number of one byte a slot, and
//          records in no order. Larger blocks live in coarser levels, so that a containing block is at most
//          a few regions away. The address of a small block is not stored: region and granule say it.
// Cost:    insert, find, take: one probe and one shard lock, O(1); an insert moves at most FLK_SHARD_REGIONS_MAX
//          entries of 16 bytes and 1,023 records, and maps at most two pieces of memory. 24 bytes a record (32
//          from 1 KiB on) and 9 bits a slot; no tombstones; shrinks.
// Callers: any thread, inside the guard, GIL not needed. Lock rank: FLK_RANK_SHARD.
// Fails:   limit or no page left: FLK_LIMIT, FLK_NO_MEMORY; the table is unchanged.
// Invariant: at most one record not marked moving for each (address, layer); no bit past a chunk's slots;
//            a shard keeps at most one empty region. Checked by flk_registry_check().
// Source:  grouping by page after heaptrack's PointerMap.
#ifndef FLK_REGISTRY_H
#define FLK_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/platform.h"
#include "base/values.h"
#include "paths/thread.h"

typedef enum flk_record_flag {
    FLK_RECORD_MOVING = 1,     // a realloc is under way: only it may touch it
    FLK_RECORD_FORGOTTEN = 2,  // reset: in no report, not in the books
    FLK_RECORD_POISONED = 4,   // held back, and filled with poison
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

_Static_assert(sizeof(flk_record) == 24, "rank-implied address");

// A record from its parts, each below its limit: three words put together in
// registers, where compilers write bit fields byte by byte.
static inline flk_record flk_record_of(uint64_t size_bytes, uint32_t scope,
                                       uint64_t sequence, uint8_t flags,
                                       uint32_t path, uint16_t type,
                                       uint16_t thread) {
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
    // Word by word: a wider load of what was just stored in words would wait
    // for the store (no forwarding).
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

// Called with the shard locked, right after the record went in or before it
// goes out, so that whoever holds all shards sees books and table agree.
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

// A copy of the record at exactly this address; moving ones are ignored.
bool flk_registry_find(flk_layer layer, uint64_t address, flk_record *out);

// Decides under the lock whether the record may go (and does its books).
typedef bool (*flk_registry_judge)(const flk_record *record, void *context);
typedef enum flk_taken {
    FLK_ABSENT,  // nothing at this address
    FLK_TAKEN,   // removed; `out` holds it
    FLK_KEPT,    // the judge said no; `out` holds a copy
} flk_taken;
flk_taken flk_registry_take(flk_layer layer, uint64_t address,
                            flk_registry_judge judge, void *context,
                            flk_record *out);

// realloc, before: marks the record moving, so that everybody else may meet
// the address again while the C function runs.
flk_taken flk_registry_move_begin(flk_layer layer, uint64_t address,
                                  flk_registry_judge judge, void *context,
                                  flk_record *out);
// After, where nothing changed.
void flk_registry_move_cancel(flk_layer layer, uint64_t address,
                              const flk_record *moving);
// After: the block is at `new_address` (which may be the old one) with
// another size; at no time is the record out of the table and in the books,
// or the reverse. `how.on_insert` gets the record with its new size. Without
// memory, or with a size above FLK_SIZE_MAX, the record is lost, through
// `how.on_remove`.
flk_status flk_registry_move(flk_layer layer, uint64_t old_address,
                             const flk_record *moving, uint64_t new_address,
                             uint64_t size_bytes, flk_insertion how);

// The live block that contains `address` without starting there. Blocks that
// overlap another one of their layer may be missed.
bool flk_registry_containing(flk_layer layer, uint64_t address, flk_entry *out);

// Visits every record, one shard locked at a time.
typedef void (*flk_registry_visitor)(flk_entry *entry, void *context);
void flk_registry_visit_shard(uint32_t shard_index, flk_registry_visitor visit,
                              void *context);
uint64_t flk_registry_shard_count(uint32_t shard_index);
bool flk_registry_holds(flk_layer layer);  // any record; O(regions)
// Between begin and end a visit of all shards, one by one, can miss or double
// a record that moves from one to another: end says whether any did.
uint64_t flk_registry_watch_begin(void);
bool flk_registry_watch_end(uint64_t begun);

typedef struct flk_registry_stats {
    uint64_t record_count;
    uint64_t region_count;
    uint64_t record_capacity;  // records the present chunks could hold
    uint64_t longest_move;     // most entries and records moved by one insert
} flk_registry_stats;
void flk_registry_read_stats(flk_registry_stats *out);

bool flk_registry_check(void);
void flk_registry_lock_all(void);
void flk_registry_unlock_all(void);
// With all shards held: visits every record; changes of `record` are kept.
void flk_registry_visit_held(flk_registry_visitor visit, void *context);

#endif

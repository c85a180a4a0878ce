// registry.h - the live block at an address, or around an address.       SPDX-License-Identifier: MIT
// Keeps:   a record for each live block, keyed by (address, layer). Blocks are grouped by the region that contains
//          their address (4 KiB for small aligned blocks). A region has slots; each slot has a bit, a granule number
//          of one byte, and a record. Records have no order. Larger blocks are in coarser levels, so that a block
//          that contains an address starts at most a few regions before it. The address of a small block is not
//          stored, because region and granule determine it.
// Cost:    insert, find and take are O(1): one probe and one shard lock. An insert moves at most FLK_SHARD_REGIONS_MAX
//          entries of 16 bytes and 1,023 records, and maps at most two pieces of memory. A record needs 24 bytes (32
//          for a block of 1 KiB or more), and a slot 9 bits. There are no tombstones. The tables shrink.
// Callers: any thread, inside the guard. The GIL is not needed. Lock rank: FLK_RANK_SHARD.
// Fails:   FLK_LIMIT at a limit, FLK_NO_MEMORY without memory; the table is unchanged.
// Invariant: each (address, layer) has at most one record that is not marked moving. No bit is set beyond the slots
//            of a chunk. A shard keeps at most one empty region. Checked by flk_registry_check().
// Source:  the grouping by page follows heaptrack's PointerMap.
#ifndef FLK_REGISTRY_H
#define FLK_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/platform.h"
#include "base/values.h"
#include "paths/thread.h"

typedef enum flk_record_flag {
    FLK_RECORD_MOVING = 1,  // in a realloc, which alone may change the record
    FLK_RECORD_FORGOTTEN = 2,  // by a reset: in no report and in no count
    FLK_RECORD_POISONED = 4,   // in quarantine and filled with poison
    FLK_RECORD_FLAGS = 7,      // all of them
    // The bits from here on hold the logarithm of the lead of a guarded block.
    // The lead is the distance from its C memory to the block (tracker/guard.h).
    FLK_RECORD_LEAD_SHIFT = 3,
} flk_record_flag;

typedef struct flk_record {
    uint64_t size_bytes : 40;
    uint64_t scope : 20;
    uint64_t is_doubted : 1;  // may belong to a scope below `scope`
    uint64_t unused : 3;
    uint64_t sequence : 56;
    uint64_t flags : 8;
    uint32_t path;
    uint16_t type;
    uint16_t thread;
} flk_record;

_Static_assert(sizeof(flk_record) == 24, "rank-implied address");

// Added to the scope of a new record that is doubted.
#define FLK_RECORD_DOUBTED (1u << 20)

// Makes a record from its parts, each within its limit. The three words are
// combined in registers, because compilers write bit fields byte by byte.
static inline flk_record flk_record_of(uint64_t size_bytes, uint32_t scope,
                                       uint64_t sequence, uint8_t flags,
                                       uint32_t path, uint16_t type,
                                       uint16_t thread) {
    FLK_ASSERT(size_bytes < UINT64_C(1) << 40);
    FLK_ASSERT(scope < 2 * FLK_RECORD_DOUBTED);
    FLK_ASSERT(sequence < UINT64_C(1) << 56);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t words[3] = {size_bytes | (uint64_t)scope << 40,
                         sequence | (uint64_t)flags << 56,
                         path | (uint64_t)type << 32 | (uint64_t)thread << 48};
    flk_record record;
    memcpy(&record, words, sizeof record);
    return record;
#else
    return (flk_record){size_bytes, scope,    scope / FLK_RECORD_DOUBTED,
                        0,          sequence, flags,
                        path,       type,     thread};
#endif
}

// The lead of a guarded block, a power of two from 2 to 2^31; 0 if the block is
// not guarded.
static inline size_t flk_record_lead(const flk_record *record) {
    FLK_ASSERT(record != NULL);
    if (FLK_LIKELY(record->flags <= FLK_RECORD_FLAGS))
        return 0;
    return (size_t)1 << (record->flags >> FLK_RECORD_LEAD_SHIFT);
}

static inline void flk_record_copy(flk_record *to, const flk_record *from) {
    FLK_ASSERT(to != NULL && from != NULL);
    // The copy is word by word. The words were often stored just before, and a
    // wider load of them would wait for the stores (no store forwarding).
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

// Called with the shard locked, directly after a record is inserted or before it
// is removed. So the counts (registry/account.h) and the table agree while all
// shards are locked.
typedef void (*flk_registry_event)(const flk_record *record, void *context);

// How a record is inserted. It is passed by value, so that its members are
// constants after inlining.
typedef struct flk_insertion {
    flk_registry_event on_insert;  // for the new record
    flk_registry_event on_remove;  // for a record that is replaced
    void *context;                 // for both
    bool *replaced;                // out: true if a record was replaced
} flk_insertion;

// Inserts a record. A record that is already at the address is replaced, because
// its free was missed. `on_insert` is called if and only if the result is FLK_OK.
flk_status flk_registry_insert(flk_layer layer, uint64_t address,
                               const flk_record *record, flk_insertion how);

// Copies the record at exactly this address; false if there is none. Moving
// records are ignored.
bool flk_registry_find(flk_layer layer, uint64_t address, flk_record *out);

// Decides under the lock whether the record may be removed. If so, it also counts
// the free.
typedef bool (*flk_registry_judge)(const flk_record *record, void *context);
typedef enum flk_taken {
    FLK_ABSENT,  // no record at this address
    FLK_TAKEN,   // removed; `out` holds it
    FLK_KEPT,    // the judge returned false; `out` holds a copy
} flk_taken;
// Removes the record at the address if the judge allows it.
flk_taken flk_registry_take(flk_layer layer, uint64_t address,
                            flk_registry_judge judge, void *context,
                            flk_record *out);

// Gives the record at the address another type; false if there is none. Calls
// `on_change` before, with the old record and the shard locked.
bool flk_registry_retype(flk_layer layer, uint64_t address, uint16_t type,
                         flk_registry_event on_change, void *context);

// Before a realloc: marks the record as moving. Another thread may then record a
// new block at the address while the C function runs.
flk_taken flk_registry_move_begin(flk_layer layer, uint64_t address,
                                  flk_registry_judge judge, void *context,
                                  flk_record *out);
// After a realloc that changed nothing: removes the mark.
void flk_registry_move_cancel(flk_layer layer, uint64_t address,
                              const flk_record *moving);
// After a realloc: moves the record to `new_address`, which may be the old one,
// and sets its new size. Counts and table agree at all times. `how.on_insert`
// receives the record with its new size. Without memory, or with a size above
// FLK_SIZE_MAX, the record is lost, and `how.on_remove` receives it.
flk_status flk_registry_move(flk_layer layer, uint64_t old_address,
                             const flk_record *moving, uint64_t new_address,
                             uint64_t size_bytes, flk_insertion how);

// Finds the live block that contains `address` but does not start there; false
// if there is none. A block that overlaps another one of its layer may be missed.
bool flk_registry_containing(flk_layer layer, uint64_t address, flk_entry *out);

// Visits every record of one shard, with that shard locked. The first shard also has
// the records that are in no shard yet (registry/young.h).
typedef void (*flk_registry_visitor)(flk_entry *entry, void *context);
void flk_registry_visit_shard(uint32_t shard_index, flk_registry_visitor visit,
                              void *context);
// Visits the records with a sequence number of at least `since`. A shard that
// was not touched is not looked at: see flk_registry_follow_begin.
void flk_registry_visit_touched(uint32_t shard_index, uint64_t since,
                                flk_registry_visitor visit, void *context);
uint64_t flk_registry_shard_count(uint32_t shard_index);
// True if the layer has a record. O(regions).
bool flk_registry_holds(flk_layer layer);
// Surround a visit of all shards, one by one. The visit can miss a record that
// moves to another shard, or visit it twice. flk_registry_watch_end takes the
// result of flk_registry_watch_begin and returns true if a record moved.
uint64_t flk_registry_watch_begin(void);
bool flk_registry_watch_end(uint64_t begun);

// A record is about to move to another shard, whose lock the caller takes next.
void flk_registry_note_move(void);

// From now on until the matching end, a shard that gets a record, or a record of
// another size, is touched. With others already following, shards that were
// touched before stay so.
void flk_registry_follow_begin(void);
void flk_registry_follow_end(void);

typedef struct flk_registry_stats {
    uint64_t record_count;
    uint64_t region_count;
    uint64_t record_capacity;  // slots of all chunks
    uint64_t longest_move;     // most entries and records moved by one insert
} flk_registry_stats;
void flk_registry_read_stats(flk_registry_stats *out);

bool flk_registry_check(void);
// In a copy of this process that has one thread, with all shards locked: before
// they are unlocked.
void flk_registry_alone(void);
void flk_registry_lock_all(void);
void flk_registry_unlock_all(void);
// Visits every record. Needs all shards locked. Changes of `record` are kept.
void flk_registry_visit_held(flk_registry_visitor visit, void *context);

#endif

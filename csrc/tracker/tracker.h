// tracker.h - records allocations, frees and moves of blocks.             SPDX-License-Identifier: MIT
// Keeps:   the settings, and the counters of events that could not be recorded.
// Cost:    for one event: the guard, the path, one shard lock, and the cells of the type and the scopes.
// Callers: any thread, GIL not needed. The functions set the guard of the thread. An event inside the guard is not
//          recorded. errno is kept. Lock rank: FLK_RANK_TRACKER, for reset, drop and fork only.
// Fails:   a failure is not visible to the caller. An event that cannot be recorded is counted in `dropped`.
// Invariant: counters and registry are changed under the lock of the shard. A thread that holds all shards therefore
//            sees the counters agree with the registry. Checked by flk_tracker_check().
#ifndef FLK_TRACKER_H
#define FLK_TRACKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"
#include "registry/registry.h"

// As FLK_PATH_WALK, with native frames added if `native_depth` is not 0.
#define FLK_PATH_WALK_NATIVE (UINT32_MAX - 2)

typedef struct flk_settings {
    atomic_bool enabled;       // relaxed; read by each event
    atomic_bool ever_enabled;  // false: no record can exist
    atomic_bool observed;      // tracker/observe.h
    atomic_bool has_handles;   // a handle was recorded at some time
    // Computed by flk_tracker_settle() from the three settings above and
    // guard_bytes. Allocators test only these two, so that unusual settings
    // cost nothing while they are off.
    atomic_bool is_usual_alloc;  // no guard bytes, no observed types
    // Records can exist, no handles, no observed types.
    atomic_bool is_usual_free;
    atomic_uint stack_depth;    // frames; 0 = none
    atomic_uint native_depth;   // native frames, for hooks; 0 = none
    atomic_uint process_scope;  // of allocations without a scope
    atomic_uint guard_bytes;    // tracker/guard.h
    atomic_bool poison;
    // Sequence numbers below this are from before the last fork.
    atomic_ullong inherited_below;
    // NULL, or a function that is called after a block was recorded, before
    // the allocating thread continues. Read by each event after its insert.
    _Atomic(void (*)(void)) wakes;
} flk_settings;
extern flk_settings flk_tracker_settings;
#define FLK_SETTING(name) \
    atomic_load_explicit(&flk_tracker_settings.name, memory_order_relaxed)

typedef struct flk_tracker_counts {
    atomic_ullong dropped;        // events that could not be recorded
    atomic_ullong missed_frees;   // an address was allocated again while live
    atomic_ullong unknown_frees;  // freed, but never recorded
    atomic_ullong scopes_dropped;
} flk_tracker_counts;
extern flk_tracker_counts flk_tracker_counted;

static inline void flk_tracker_count(atomic_ullong *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline bool flk_tracker_is_enabled(void) { return FLK_SETTING(enabled); }

// The properties of a new block that the caller supplies.
typedef struct flk_origin {
    uint16_t type;   // flk_names
    uint32_t scope;  // or FLK_SCOPE_NONE, FLK_SCOPE_UNCLAIMED
    uint32_t path;   // or FLK_PATH_WALK, FLK_PATH_WALK_NATIVE
} flk_origin;

// Sets flk_settings.wakes.
void flk_tracker_wakes(void (*wake)(void));
bool flk_tracker_init(void);  // idempotent
void flk_tracker_enable(bool on);
// Must be called after a change of ever_enabled, observed, has_handles or
// guard_bytes.
void flk_tracker_settle(void);

// Records a new block. Returns true if it was recorded.
bool flk_tracker_on_alloc(flk_layer layer, uint64_t address,
                          uint64_t size_bytes, uint8_t flags,
                          const flk_origin *origin);
// Removes the record of a block that is released as `type` specifies (0: in any
// way). FLK_TAKEN: `out` is the removed record. FLK_KEPT: the block must be
// released by another function, and `out` is its record.
flk_taken flk_tracker_on_free(flk_layer layer, uint64_t address, uint16_t type,
                              flk_record *out);
// Removes a record on request of a program that frees the block in another way.
// FLK_KEPT: the block is guarded. Without its record, a free would pass the
// address of the block to the C library instead of that of its memory.
flk_taken flk_tracker_untrack(flk_layer layer, uint64_t address,
                              flk_record *out);
// Gives the record at an address another type, which has been prepared for
// counts. Returns false if there is none.
bool flk_tracker_retype(flk_layer layer, uint64_t address, uint16_t type);
// Record a reallocation. Call begin, and then the C function. If begin returned
// FLK_TAKEN, call exactly one of cancel and end after that. End returns true if
// the block is still recorded.
flk_taken flk_tracker_move_begin(flk_layer layer, uint64_t address,
                                 uint16_t type, flk_record *out);
void flk_tracker_move_cancel(flk_layer layer, uint64_t address,
                             const flk_record *moving);
bool flk_tracker_move_end(flk_layer layer, uint64_t old_address,
                          const flk_record *moving, uint64_t new_address,
                          uint64_t size_bytes);
// Returns the current path of this thread, as recorded for an allocation.
uint32_t flk_tracker_path(void);
// Returns the number of frames recorded for a free. It is at most that of an
// allocation.
uint32_t flk_tracker_free_depth(void);

// Opens a scope and returns its number. If no number is free, scopes that are
// held only by live blocks are recycled first. Their blocks move to an ancestor
// and stay in the same views. If no number is free after that, the parent's
// number is returned and scopes_dropped rises by one. O(1), or O(n) when scopes
// are recycled.
uint32_t flk_tracker_open_scope(uint32_t parent, bool isolated);

// Returns true if the record is shown in reports. Forgotten records are not
// shown. Inherited records are shown only if `all` is true.
bool flk_tracker_is_shown(const flk_record *record, bool all);
// Forgets the live blocks in the view of a scope. Their memory is not freed. All
// counters count them as freed from then on. Therefore no counter ever falls, in
// the view, in its ancestors or in scopes that other threads have open, and a
// difference of two readings is right even if blocks were forgotten between
// them. Peaks are kept.
void flk_tracker_reset(uint32_t view);
// For tests. Forgets all live blocks and sets every counter to zero.
void flk_tracker_begin_anew(void);
// Sets the peaks of a scope to its current live counts.
void flk_tracker_reset_peak(uint32_t scope);
// Forgets the live blocks of the types for which `is_dropped` returns true, as
// reset does, and removes their records. Their frees are not recognised after
// that. Returns the number of removed records. O(n).
uint64_t flk_tracker_drop(bool (*is_dropped)(uint16_t type));
// For tests. Returns true if every structure is valid and the counters agree
// with the registry. O(n).
bool flk_tracker_check(void);

#endif

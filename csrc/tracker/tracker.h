// tracker.h - records the allocations, frees and moves of blocks.            SPDX-License-Identifier: MIT
// Keeps:   the settings, and the counters of what could not be recorded.
// Cost:    an event: guard, call path, one shard lock, the cells of its type and scopes.
// Callers: any thread, the GIL is not needed. An event sets the guard of the thread; an event inside the guard (of a
//          signal handler) is not recorded. Keeps errno. Lock rank: FLK_RANK_TRACKER, for reset and fork only.
// Fails:   never to the caller: an event that cannot be recorded is one more in `dropped`.
// Invariant: while all shards are held, books and registry agree. Checked by flk_tracker_check().
#ifndef FLK_TRACKER_H
#define FLK_TRACKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"
#include "registry/registry.h"

// As FLK_PATH_WALK, with native frames before the Python frames if
// `native_depth` is not 0.
#define FLK_PATH_WALK_NATIVE (UINT32_MAX - 2)

// --- settings -----------------------------------------------------------
typedef struct flk_settings {
    atomic_bool enabled;       // relaxed, read by each event
    atomic_bool ever_enabled;  // false: no record can exist
    atomic_bool observed;      // tracker/observe.h
    // Folded from the two above and guard_bytes by flk_tracker_settle: one load
    // tells an allocator whether it must do anything unusual.
    atomic_bool is_usual_alloc;     // no guard, no observer
    atomic_bool is_usual_free;      // records can exist, no observer
    atomic_uint stack_depth;        // Python frames of a path, 0 = none
    atomic_uint native_depth;       // native frames for hooks, 0 = none
    atomic_uint process_scope;      // of events without a scope of their own
    atomic_uint guard_bytes;        // of new blocks (tracker/guard.h)
    atomic_bool poison;             // fill freed blocks that are held back
    atomic_ullong inherited_below;  // sequences from before the last fork
    // Called after a block was recorded, before its address is returned to the
    // caller; or NULL. Each event reads it after its insert.
    _Atomic(void (*)(void)) wakes;
} flk_settings;
extern flk_settings flk_tracker_settings;
#define FLK_SETTING(name) \
    atomic_load_explicit(&flk_tracker_settings.name, memory_order_relaxed)

typedef struct flk_tracker_counts {
    atomic_ullong dropped;         // events that could not be recorded
    atomic_ullong missed_frees;    // an address was allocated while recorded
    atomic_ullong unknown_frees;   // frees of blocks without a record
    atomic_ullong scopes_dropped;  // scopes that got the number of their parent
} flk_tracker_counts;
extern flk_tracker_counts flk_tracker_counted;

static inline void flk_tracker_count(atomic_ullong *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline bool flk_tracker_is_enabled(void) { return FLK_SETTING(enabled); }

void flk_tracker_wakes(void (*wake)(void));
bool flk_tracker_init(void);  // idempotent; false without memory
void flk_tracker_enable(bool on);
// To be called after a change of ever_enabled, observed or guard_bytes.
void flk_tracker_settle(void);

// --- events -------------------------------------------------------------
// Where a block comes from.
typedef struct flk_origin {
    uint16_t type;   // registry/names.h
    uint32_t scope;  // or FLK_SCOPE_NONE: the process scope
    uint32_t path;   // or FLK_PATH_WALK, FLK_PATH_WALK_NATIVE
} flk_origin;

// A block was allocated. True if it is recorded now.
bool flk_tracker_on_alloc(flk_layer layer, uint64_t address,
                          uint64_t size_bytes, uint8_t flags,
                          const flk_origin *origin);
// A block is freed, in the way of `type` (0: any way). `out` is its record
// (FLK_TAKEN), or the record that must be released another way (FLK_KEPT).
flk_taken flk_tracker_on_free(flk_layer layer, uint64_t address, uint16_t type,
                              flk_record *out);
// A record is removed by request of a program, which frees the block in a way
// that is not seen. FLK_KEPT: a guarded block. Without its record a free would
// give the C library an address that is not the start of its memory.
flk_taken flk_tracker_untrack(flk_layer layer, uint64_t address,
                              flk_record *out);
// A block may move: begin, then the C function, then one of cancel and end if
// begin returned FLK_TAKEN. End returns whether the block is still recorded.
flk_taken flk_tracker_move_begin(flk_layer layer, uint64_t address,
                                 uint16_t type, flk_record *out);
void flk_tracker_move_cancel(flk_layer layer, uint64_t address,
                             const flk_record *moving);
bool flk_tracker_move_end(flk_layer layer, uint64_t old_address,
                          const flk_record *moving, uint64_t new_address,
                          uint64_t size_bytes);
// The path of this thread, as an allocation that happens now would get it.
uint32_t flk_tracker_path(void);
// The number of frames that a free records.
uint32_t flk_tracker_free_depth(void);

// --- scopes -------------------------------------------------------------
// A new scope. At the limit the blocks of scopes that are dropped move to the
// nearest scope above that is not, so that the numbers are free again: O(n)
// then, else O(1). If all numbers are in use, the parent's number, and one more
// in scopes_dropped.
uint32_t flk_tracker_open_scope(uint32_t parent, bool isolated);

// --- forgetting ---------------------------------------------------------
// Is the record part of reports? Not if it is forgotten; one from before a fork
// only if `all`.
bool flk_tracker_is_shown(const flk_record *record, bool all);
// Forgets the live blocks in the view of a scope; their memory stays. They
// count as freed. So no count falls, in the view, above it or in the open
// scopes of other threads, and a difference of two readings is right whatever
// was forgotten between them. Peaks stay. O(n), with all shards held.
void flk_tracker_reset(uint32_t view);
// For tests: forgets all live blocks, and sets all counts to zero.
void flk_tracker_begin_anew(void);
// The peaks of a scope become what is live there now.
void flk_tracker_reset_peak(uint32_t scope);
// Forgets the live blocks of these types, as reset does, and removes their
// records, since their frees will not be seen. Returns how many. O(n).
uint64_t flk_tracker_drop(bool (*is_dropped)(uint16_t type));
// For tests, while there are no events: every structure is sound, and the books
// of each type and scope agree with the registry. O(n). False without memory.
bool flk_tracker_check(void);

#endif

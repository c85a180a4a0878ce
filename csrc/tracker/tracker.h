// tracker.h - records what happens to blocks, whoever makes it happen.   SPDX-License-Identifier: MIT
// Keeps:   the settings and the counters of what could not be recorded.
// Cost:    one event: guard, path, one shard lock, the cells of its type and scopes.
// Callers: any thread, GIL not needed; sets and respects the guard of the thread (what happens inside it is not
//          recorded). Keeps errno. Lock rank: FLK_RANK_TRACKER for reset and fork only.
// Fails:   never to the caller: an event that cannot be recorded is one more in `dropped`.
// Invariant: whoever holds all shards sees books and registry agree. Checked by flk_tracker_check().
#ifndef FLK_TRACKER_H
#define FLK_TRACKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"
#include "registry/registry.h"

// Take the path from the Python frames of this thread.
// The same, with native frames above if they are wanted.
#define FLK_PATH_WALK_NATIVE (UINT32_MAX - 2)
// The scope of what is not to be recorded.

typedef struct flk_settings {
    atomic_bool enabled;       // relaxed, read by each event
    atomic_bool ever_enabled;  // false: no record can exist
    atomic_bool observed;      // tracker/observe.h
    atomic_bool has_handles;   // one was recorded at some time
    // Of the three above and the guard: what the allocators ask, so that what
    // is unusual costs them nothing. Set by flk_tracker_settle().
    atomic_bool is_usual_alloc;  // no guard, nobody observes
    atomic_bool
        is_usual_free;         // records can exist, no handles, nobody observes
    atomic_uint stack_depth;   // frames, 0 = none
    atomic_uint native_depth;  // frames of hooks, 0 = none
    atomic_uint process_scope;  // scope of who has no scope of its own
    atomic_uint guard_bytes;    // tracker/guard.h
    atomic_bool poison;
    atomic_ullong inherited_below;  // sequences from before the last fork
    // Called when a block was recorded, before its maker goes on, or NULL.
    // Read by each event after its insert.
    _Atomic(void (*)(void)) wakes;
} flk_settings;
extern flk_settings flk_tracker_settings;
#define FLK_SETTING(name) \
    atomic_load_explicit(&flk_tracker_settings.name, memory_order_relaxed)

typedef struct flk_tracker_counts {
    atomic_ullong dropped;        // events that could not be recorded
    atomic_ullong missed_frees;   // an address came back while live
    atomic_ullong unknown_frees;  // freed, but never recorded
    atomic_ullong scopes_dropped;
} flk_tracker_counts;
extern flk_tracker_counts flk_tracker_counted;

static inline void flk_tracker_count(atomic_ullong *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline bool flk_tracker_is_enabled(void) { return FLK_SETTING(enabled); }

// What the caller knows of a new block.
typedef struct flk_origin {
    uint16_t type;   // flk_names
    uint32_t scope;  // or FLK_SCOPE_NONE: the process scope
    uint32_t path;   // or FLK_PATH_WALK, FLK_PATH_WALK_NATIVE
} flk_origin;

void flk_tracker_wakes(void (*wake)(void));
bool flk_tracker_init(void);  // idempotent
void flk_tracker_enable(bool on);
// After a change of ever_enabled, observed, has_handles or guard_bytes.
void flk_tracker_settle(void);

// A block came to be. True if it is recorded now.
bool flk_tracker_on_alloc(flk_layer layer, uint64_t address,
                          uint64_t size_bytes, uint8_t flags,
                          const flk_origin *origin);
// A block goes, released as `type` says (0 = any way). `out` gets its record
// (FLK_TAKEN), or the record that forbids it (FLK_KEPT: another release).
flk_taken flk_tracker_on_free(flk_layer layer, uint64_t address, uint16_t type,
                              flk_record *out);
// A record goes, by request of a program that frees the block some other way.
// FLK_KEPT: a guarded block, since a free of it without its record would give
// the C library another address than that of its memory.
flk_taken flk_tracker_untrack(flk_layer layer, uint64_t address,
                              flk_record *out);
// A block may move: call begin, then the C function, then exactly one of
// cancel and end if begin said FLK_TAKEN. End: is it still recorded?
flk_taken flk_tracker_move_begin(flk_layer layer, uint64_t address,
                                 uint16_t type, flk_record *out);
void flk_tracker_move_cancel(flk_layer layer, uint64_t address,
                             const flk_record *moving);
bool flk_tracker_move_end(flk_layer layer, uint64_t old_address,
                          const flk_record *moving, uint64_t new_address,
                          uint64_t size_bytes);
// The path of this thread now, as a record of an alloc would get it.
uint32_t flk_tracker_path(void);
// How many frames a free keeps: fewer.
uint32_t flk_tracker_free_depth(void);

// Is the record in reports (not forgotten; inherited ones only if `all`)?
bool flk_tracker_is_shown(const flk_record *record, bool all);
// Forgets the live blocks in the view of a scope; their memory stays. In all
// counts they are freed from then on: so no count ever falls, in the view,
// above it or in scopes that other threads have open, and a difference of two
// readings is right whatever was forgotten between them. Peaks stay.
void flk_tracker_reset(uint32_t view);
// For tests: forgets all live blocks, and every count is zero again.
void flk_tracker_begin_anew(void);
// The peaks of a scope start anew from what is live there now.
void flk_tracker_reset_peak(uint32_t scope);
// Forgets the live blocks of these types as reset does, and removes their
// records: no free of them will be seen. Returns how many. O(n).
uint64_t flk_tracker_drop(bool (*is_dropped)(uint16_t type));
// O(n), for tests: every structure is right and the books agree.
bool flk_tracker_check(void);

#endif

// api.h - what Python may call and this room defines.                        SPDX-License-Identifier: MIT
// Keeps:   nothing of its own but a flag.
// Use:     read by the C compiler and, as base/values.h is, by csrc/build_ffi.py. Functions of the rooms below that
//          Python calls as they are stand in api/lower.cdef. Functions take and return plain values.
// Callers: any thread, with or without the GIL.
#ifndef FLK_API_H
#define FLK_API_H

#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

// --- life ---------------------------------------------------------------
// Once, at import. `package_folder` ends with a separator. NULL if all is
// well; else a text that says why Python frames are not to be had (the rest
// works). `flk_is_ready` is 0 if there was no memory at all.
const char *flk_start(const char *package_folder);
int flk_is_ready(void);
void flk_set_stack_depth(uint32_t frames);  // 0 .. flk_stack_depth_max()
uint32_t flk_stack_depth(void);
uint32_t flk_stack_depth_max(void);
// Native frames of what hooks see: 0 .. flk_stack_depth_max(). Not to be
// called while the caller is inside of the loader.
void flk_set_native_depth(uint32_t frames);
uint32_t flk_native_depth(void);

// --- types and paths ----------------------------------------------------
uint16_t flk_type_intern(const char *type, const char *kind,
                         const char *release);  // 0: no memory or limit
// For interpreters without a walker: a path by its (code, line) pairs,
// innermost first. 0: none.
uint32_t flk_path_of(const uint32_t *codes, const int32_t *lines, size_t count);

// --- blocks of our own --------------------------------------------------
// `zeroed` and `alignment` (0 or a power of two) as the C functions have
// them; size 0 gets a block of its own. NULL: no memory. Records the block
// while enabled.
void *flk_allocate(size_t size_bytes, size_t alignment, int zeroed,
                   uint16_t type, uint32_t scope, uint32_t path);
// The block's new address, or NULL: then `out->verdict` says why (FLK_FREED:
// size 0; FLK_NO_ROOM: the old block is as it was; else misuse).
void *flk_resize(void *address, size_t size_bytes, uint16_t type,
                 uint32_t scope, uint32_t path, flk_misuse *out);
void flk_configure(uint32_t quarantine_blocks, uint64_t quarantine_bytes,
                   int poison);
// Guard bytes before and behind each block; 0 done, -1 while guarded blocks
// with another number live.
int flk_configure_guard(uint32_t guard_bytes);
void flk_configuration(uint32_t *quarantine_blocks, uint64_t *quarantine_bytes,
                       int *poison, uint32_t *guard_bytes);

// For C libraries. `opaque` may name a type: flk_opaque(type), or NULL.
void *flk_c_malloc(size_t size_bytes);
void *flk_c_calloc(size_t count, size_t size_bytes);
void *flk_c_realloc(void *address, size_t size_bytes);
void flk_c_free(void *address);
void *flk_c_opaque_malloc(void *opaque, size_t size_bytes);
void *flk_c_opaque_calloc(void *opaque, size_t count, size_t size_bytes);
void *flk_c_opaque_realloc(void *opaque, void *address, size_t size_bytes);
void flk_c_opaque_free(void *opaque, void *address);
void *flk_c_zalloc(void *opaque, unsigned int count, unsigned int size_bytes);
void *flk_opaque(uint16_t type);
// The same, recording nothing; their frees are those above.
void *flk_plain_malloc(size_t size_bytes);
void *flk_plain_calloc(size_t count, size_t size_bytes);
void *flk_plain_realloc(void *address, size_t size_bytes);
void *flk_plain_opaque_malloc(void *opaque, size_t size_bytes);
void *flk_plain_opaque_calloc(void *opaque, size_t count, size_t size_bytes);
void *flk_plain_opaque_realloc(void *opaque, void *address, size_t size_bytes);
void *flk_plain_zalloc(void *opaque, unsigned int count,
                       unsigned int size_bytes);

// --- blocks of others ---------------------------------------------------
int flk_track(uint64_t address, uint64_t size_bytes, uint8_t layer,
              uint16_t type, uint32_t scope, uint32_t path);       // 1 recorded
int flk_untrack(uint64_t address, uint8_t layer, flk_block *out);  // 1 it was
int flk_find(uint64_t address, uint8_t layer, flk_block *out);  // 1 live here
int flk_find_containing(uint64_t address, uint8_t layer, flk_block *out);

// --- scopes -------------------------------------------------------------
// 0 is the process. The parent's number again if there is no room.
uint32_t flk_scope_new(uint32_t parent, int isolated);
void flk_scope_gone(uint32_t scope);  // its Python object is no more
void flk_set_process_scope(uint32_t scope);
// The context scope of this thread, for C functions called while it runs;
// `change` is +1 when a context scope opens, -1 when it ends, else 0.
void flk_set_thread_scope(uint32_t scope, int change);

// --- figures ------------------------------------------------------------
typedef struct flk_figures {
    uint64_t allocations, frees, bytes_allocated, bytes_freed;
    int64_t peak_blocks, peak_bytes;  // upper bounds unless peak_exact
    int peak_exact;
} flk_figures;
void flk_scope_figures(uint32_t scope, flk_figures *out);
void flk_type_figures(uint16_t type, flk_figures *out);

typedef struct flk_thread_figures {
    uint32_t thread;  // its number; 0: all that ended, and unnumbered ones
    uint64_t ident;   // threading.get_ident(); 0 for those
    uint64_t allocations, frees, bytes_allocated, bytes_freed;
} flk_thread_figures;
// What each living thread and the ended ones together did; returns how many
// entries there are, of which at most `max` are filled in.
size_t flk_threads_read(flk_thread_figures *out, size_t max);

typedef struct flk_self {
    uint64_t entries, capacity, regions, bytes;
    uint64_t paths, sites, codes, types, scopes, lingering_scopes, threads;
    uint64_t dropped, missed_frees, unknown_frees, scopes_dropped;
    uint64_t scope_unknown;
    uint64_t double_frees, interior_frees, mismatched_frees, damages;
    uint64_t held_blocks, held_bytes, longest_move;
    uint64_t open_scopes, pauses;
    uint64_t ever_enabled;  // 1 if tracking was on at any time, else 0
} flk_self;
void flk_self_figures(flk_self *out);
void flk_clear_counts(void);  // the counters of events, for reset

// --- groups -------------------------------------------------------------
// The blocks of one path and one type, hence of one kind and release.
typedef struct flk_group {
    uint64_t size_bytes;  // of all its blocks
    uint64_t size_min, size_max;
    uint32_t path, type;
    uint32_t first, count;  // members[first], ...
} flk_group;
typedef struct flk_grouping {
    size_t count;
    flk_group *groups;  // by their first block
    size_t group_capacity;
    uint32_t *members;  // positions of blocks, rising within a group
    size_t member_count;
} flk_grouping;
// 0 done, -1 no memory (then there is nothing to free). O(n); 8 bytes a block
// and 96 a group, half of that once done.
int flk_group_blocks(const flk_block *blocks, size_t count, flk_grouping *out);
void flk_grouping_free(flk_grouping *grouping);

uint32_t flk_thread_number(void);  // of this thread; 0 unknown

// --- hooks --------------------------------------------------------------
// Records what the loaded objects that the rules choose allocate, from now on
// and while tracking is on. An attachment switches it on; flk_gate_set(false)
// and pauses switch it off. Rules: "+pattern", "-pattern" by path or its last
// part, with * and ?; "|" begins another request. 0 done, -1 not: `reason`
// says why. Attached already: to these instead.
int flk_hooks_attach(const char *const *rules, size_t rule_count,
                     int with_mappings, char *reason, size_t reason_bytes);
// No more allocations are recorded by hooks; records stay.
void flk_hooks_detach(void);
// A block for each so many bytes on average is recorded; 0: all. To be set
// while no block is recorded by hooks.
void flk_hooks_sample(uint64_t mean_bytes);

// --- signals ------------------------------------------------------------
// From now on each `signal_number` that this process gets is a byte to read
// from the descriptor returned, besides what handled it before; -1 with
// errno. Not for a child of a fork, which begins anew. After end the reader
// meets the end of the pipe, and closes it.
int flk_signal_begin(int signal_number);
void flk_signal_end(int signal_number);

#endif

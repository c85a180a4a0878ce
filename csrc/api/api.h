// api.h - all that Python may call. Read by cffi as it is, and by the C compiler through flk.h, so: no
// directive but integer #defines, no inline code. Functions take and return plain values; the layers below
// hold the logic. Every function may be called from any thread, with or without the GIL.
// SPDX-License-Identifier: MIT

#define FLK_API_VERSION 1

// A live block, or one that was: what snapshots and misuse reports hold.
typedef struct flk_block {
    uint64_t address;
    uint64_t size_bytes;
    uint64_t sequence;
    uint32_t path;    // flk_path_sites
    uint32_t scope;   // flk_scope_open
    uint32_t thread;  // flk_thread_ident_now
    uint16_t type;    // flk_type_intern
    uint8_t layer;    // FLK_IN_...
    uint8_t flags;
} flk_block;

// Layers.
#define FLK_IN_MAPPING 1
#define FLK_IN_HEAP 2
#define FLK_IN_HANDLE 3
#define FLK_IN_OBJECT 4  // of copies only: no native memory

// Paths and scopes with a meaning of their own.
#define FLK_WALK 4294967294   // path: take it from this thread's frames
#define FLK_CURRENT 4294967295  // scope: the process scope of now
#define FLK_NOWHERE 4294967294  // scope: do not record
#define FLK_SEQUENCE_SHIFT 20    // a sequence >> this is its tick, from 1
#define FLK_TICK_NS 4194304

// --- life ---------------------------------------------------------------
// Once, at import. `package_folder` ends with a separator. NULL if all is
// well; else a text that says why Python frames are not to be had (the rest
// works). `flk_is_ready` is 0 if there was no memory at all.
const char *flk_start(const char *package_folder);
int flk_is_ready(void);
const char *flk_built_for_other(void);  // NULL, or why import must refuse
// On is: the user wants it, or a scope is open and nobody said off since;
// and no pause, and not forbidden.
void flk_enable(int on);
void flk_gate_for_scope(int change);  // +1 opened, -1 ended
void flk_gate_for_pause(int change);
void flk_forbid(void);
int flk_is_enabled(void);
void flk_set_stack_depth(uint32_t frames);  // 0 .. flk_stack_depth_max()
uint32_t flk_stack_depth(void);
uint32_t flk_stack_depth_max(void);
// Native frames of what hooks see: 0 .. flk_stack_depth_max(). Not to be
// called while the caller is inside of the loader.
void flk_set_native_depth(uint32_t frames);
uint32_t flk_native_depth(void);
int flk_walks_frames(void);  // 0: the caller passes paths
void flk_stop_frames(void);  // interpreter shutdown

// --- types and paths ----------------------------------------------------
uint16_t flk_type_intern(const char *type, const char *kind,
                         const char *release);  // 0: no memory or limit
uint32_t flk_type_count(void);                  // ids 1..count
const char *flk_type_name(uint16_t type);
const char *flk_type_kind(uint16_t type);
const char *flk_type_release(uint16_t type);

typedef struct flk_place {
    const char *function;  // UTF-8, surrogates as three bytes
    const char *filename;
    int32_t line;          // -1 unknown, as the following
    int32_t end_line;
    int32_t column;        // bytes from the start of the line
    int32_t end_column;
} flk_place;

// The sites of a path, innermost first; returns how many there are.
size_t flk_path_sites(uint32_t path, uint32_t *sites, size_t sites_max);
int flk_site_place(uint32_t site, flk_place *out);  // 1 found, 0 not
// A native frame. Its module is a file that was loaded at `base`; `offset`
// is an address of the file, inside the call. Symbols: of that file, if the
// table of its .eh_frame_hdr still has the fingerprint (FNV-1a of its first
// 4096 bytes; 0 = it has none).
typedef struct flk_native_place {
    const char *path;  // "" = code of no object: `offset` is from `base`
    uint64_t base;
    uint64_t offset;
    uint64_t fingerprint;
    uint32_t module;   // rises with each file at each place
} flk_native_place;
int flk_site_native(uint32_t site, flk_native_place *out);  // 1 it is one
// The readable form of a C++ name; 0: it is none, or no C++ is loaded.
size_t flk_demangle(const char *name, char *out, size_t out_bytes);
// For interpreters without a walker: a code by its texts, a path by its
// (code, line) pairs, innermost first. 0: none.
uint32_t flk_code_named(const char *function, const char *filename);
uint32_t flk_path_of(const uint32_t *codes, const int32_t *lines,
                     size_t count);
uint32_t flk_path_now(void);

// --- blocks of our own --------------------------------------------------
// Misuse, found before the C function runs. Good ones are not negative.
#define FLK_FREED 0          // it was recorded, now it is gone
#define FLK_NOT_RECORDED 1   // it was not; freed all the same
#define FLK_MAYBE_DOUBLE 2   // not recorded, but freed by us lately; freed
#define FLK_DOUBLE_FREE -1   // proven: its memory is still held back
#define FLK_INTERIOR_FREE -2 // inside the block, not its start
#define FLK_MISMATCHED_FREE -3  // must be released another way
#define FLK_OVERRUN -4       // freed, but its guard bytes were written over
#define FLK_WRITE_AFTER_FREE -5  // an earlier block was written to when free
#define FLK_NO_ROOM -6       // realloc: the C function said no

typedef struct flk_misuse {
    int32_t verdict;
    uint32_t free_path;   // where it was freed first, if it was
    uint32_t here_path;   // where this call comes from
    int32_t damage;       // offset of the first damaged byte, else 0
    flk_block block;      // the block concerned
} flk_misuse;

// `zeroed` and `alignment` (0 or a power of two) as the C functions have
// them; size 0 gets a block of its own. NULL: no memory. Records the block
// while enabled.
void *flk_allocate(size_t size_bytes, size_t alignment, int zeroed,
                   uint16_t type, uint32_t scope, uint32_t path);
// Returns a verdict; `out` (may be NULL) is filled unless FLK_FREED or
// FLK_NOT_RECORDED. Nothing is freed for -1 to -3.
int flk_release(void *address, uint16_t type, uint32_t path,
                flk_misuse *out);
// The block's new address, or NULL: then `out->verdict` says why (FLK_FREED:
// size 0; FLK_NO_ROOM: the old block is as it was; else misuse).
void *flk_resize(void *address, size_t size_bytes, uint16_t type,
                 uint32_t scope, uint32_t path, flk_misuse *out);
void flk_configure(uint32_t quarantine_blocks, uint64_t quarantine_bytes,
                   int poison);
// Guard bytes before and behind each block; 0 done, -1 while guarded blocks
// with another number live.
int flk_configure_guard(uint32_t guard_bytes);
void flk_configuration(uint32_t *quarantine_blocks,
                       uint64_t *quarantine_bytes, int *poison,
                       uint32_t *guard_bytes);
// Gives the quarantine's memory to the C free; damage goes to the queue.
void flk_drain_quarantine(void);
// Guards of all live blocks and poison of all held ones: damage goes to the
// queue. Returns how many were found.
uint32_t flk_check_damage(void);
// The next misuse that no Python call could be told of. 1 there was one.
int flk_next_misuse(flk_misuse *out);

// For C libraries. `opaque` may name a type: flk_opaque(type), or NULL.
void *flk_c_malloc(size_t size_bytes);
void *flk_c_calloc(size_t count, size_t size_bytes);
void *flk_c_realloc(void *address, size_t size_bytes);
void flk_c_free(void *address);
void *flk_c_opaque_malloc(void *opaque, size_t size_bytes);
void *flk_c_opaque_calloc(void *opaque, size_t count, size_t size_bytes);
void *flk_c_opaque_realloc(void *opaque, void *address, size_t size_bytes);
void flk_c_opaque_free(void *opaque, void *address);
void *flk_c_zalloc(void *opaque, unsigned int count,
                   unsigned int size_bytes);
void *flk_opaque(uint16_t type);
// The same, recording nothing; their frees are those above.
void *flk_plain_malloc(size_t size_bytes);
void *flk_plain_calloc(size_t count, size_t size_bytes);
void *flk_plain_realloc(void *address, size_t size_bytes);
void *flk_plain_opaque_malloc(void *opaque, size_t size_bytes);
void *flk_plain_opaque_calloc(void *opaque, size_t count, size_t size_bytes);
void *flk_plain_opaque_realloc(void *opaque, void *address,
                               size_t size_bytes);
void *flk_plain_zalloc(void *opaque, unsigned int count,
                       unsigned int size_bytes);

// --- observers ----------------------------------------------------------
#define FLK_OBSERVED_MADE 1
#define FLK_OBSERVED_FREED 2

typedef struct flk_observed {
    flk_block block;
    int32_t what;
    int32_t unused;
} flk_observed;
// Events are kept from now on for blocks of these types: a byte for each
// number below `count`, not 0 = yes; of later types all. NULL: none.
void flk_observe_types(const uint8_t *types, uint32_t count);
int flk_observed_next(flk_observed *out);  // 1 there was one
uint64_t flk_observed_lost(void);
void flk_observe_inside(int change);  // +1: a callback runs in this thread

// --- blocks of others ---------------------------------------------------
int flk_track(uint64_t address, uint64_t size_bytes, uint8_t layer,
              uint16_t type, uint32_t scope, uint32_t path);  // 1 recorded
int flk_untrack(uint64_t address, uint8_t layer, flk_block *out);  // 1 it was
int flk_find(uint64_t address, uint8_t layer, flk_block *out);  // 1 live here
int flk_find_containing(uint64_t address, uint8_t layer, flk_block *out);

// --- scopes -------------------------------------------------------------
// 0 is the process. The parent's number again if there is no room.
uint32_t flk_scope_new(uint32_t parent, int isolated);
void flk_scope_left(uint32_t scope);  // its window is over
void flk_scope_gone(uint32_t scope);  // its Python object is no more
uint32_t flk_process_scope(void);
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
uint64_t flk_scope_unknown(void);  // as in flk_self, alone
void flk_type_figures(uint16_t type, flk_figures *out);
int flk_scope_is_clean(uint32_t scope);  // no live block in its view; O(1)

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
} flk_self;
void flk_self_figures(flk_self *out);
void flk_clear_counts(void);  // the counters of events, for reset

// --- snapshots ----------------------------------------------------------
typedef struct flk_snapshot {
    size_t count;
    flk_block *blocks;     // by sequence
    size_t mapped_bytes;
    uint64_t taken_wall_ns;
} flk_snapshot;
// Live blocks in the view of a scope, from `since` on; those from before the
// last fork if `inherited`. 0 done, -1 no memory (then count is 0).
int flk_snapshot_take(uint32_t scope, uint64_t since, int inherited,
                      flk_snapshot *out);
void flk_snapshot_free(flk_snapshot *snapshot);

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
int flk_group_blocks(const flk_block *blocks, size_t count,
                     flk_grouping *out);
void flk_grouping_free(flk_grouping *grouping);

// What was allocated by each path while somebody asked (flk_count_paths(1),
// until (-1)), freed or not. Counts rise for ever: differences tell.
typedef struct flk_path_counts {
    uint64_t blocks, bytes;
    uint32_t path, unused;
} flk_path_counts;
void flk_count_paths(int change);
// Returns how many paths have any, of which at most `max` are filled in.
size_t flk_path_counts_read(flk_path_counts *out, size_t max);

uint64_t flk_mark(void);
uint64_t flk_wall_ns(uint64_t sequence);
uint64_t flk_age_ns(uint64_t sequence);
uint64_t flk_thread_ident_now(uint32_t thread);  // 0 ended
uint32_t flk_thread_number(void);                // this thread's; 0 unknown
void flk_reset(uint32_t scope);
void flk_reset_peak(uint32_t scope);  // to what is live now; O(threads)

// --- hooks --------------------------------------------------------------
// Records from now on what the loaded objects that the rules choose allocate:
// "+pattern", "-pattern" by path or its last part, with * and ?; "|" begins
// another wish. 0 done, -1 not: `reason` says why. Attached already: to these
// instead.
int flk_hooks_attach(const char *const *rules, size_t rule_count,
                     int with_mappings, char *reason, size_t reason_bytes);
// A block for each so many bytes on average is recorded; 0: all. To be set
// while no block is recorded by hooks.
void flk_hooks_sample(uint64_t mean_bytes);
void flk_hooks_refresh(void);  // objects that were loaded since
void flk_hooks_detach(void);
// Forgets what hooks recorded; detached first, or its frees are foreign.
void flk_hooks_drop(void);

typedef struct flk_hooks_figures {
    uint64_t attached, paused;        // 0 or 1
    uint64_t objects, objects_asked;  // loaded; recorded
    uint64_t providers;                // allocators in the process
    uint64_t slots, unbound_slots, others_slots, failed_words;
    uint64_t foreign_frees, mismatched_frees;
    uint64_t reentered, lost_in_fork, unknown_callers;
} flk_hooks_figures;
void flk_hooks_read(flk_hooks_figures *out);

// --- signals ------------------------------------------------------------
// From now on each `signal_number` that this process gets is a byte to read
// from the descriptor returned, besides what handled it before; -1 with
// errno. Not for a child of a fork, which begins anew. After end the reader
// meets the end of the pipe, and closes it.
int flk_signal_begin(int signal_number);
void flk_signal_end(int signal_number);

// --- for tests ----------------------------------------------------------
int flk_check(void);
uint64_t flk_fail_mapping(uint64_t nth);

// values.h - numbers and plain structs that the core and Python share.       SPDX-License-Identifier: MIT
// Keeps:   nothing. Each value has one name, here, for C, cffi and Python.
// Use:     read by the C compiler, and by csrc/build_ffi.py, which hands everything but preprocessor lines to cffi
//          (and `#define NAME integer`): so no other macro and no inline code.
#ifndef FLK_VALUES_H
#define FLK_VALUES_H

#include <stdint.h>

// --- blocks -------------------------------------------------------------
// An address has at most one live record in each layer.
typedef enum flk_layer {
    FLK_LAYER_MAPPING = 1,  // mmap
    FLK_LAYER_HEAP = 2,     // malloc and its kin
    FLK_LAYER_HANDLE = 3,   // an object of a library, whatever memory it has
    FLK_LAYER_OBJECT = 4,   // a Python object; in copies only, never a record
} flk_layer;

// A live block, or one that was: what snapshots and misuse reports hold.
typedef struct flk_block {
    uint64_t address;
    uint64_t size_bytes;
    uint64_t sequence;
    uint32_t path;    // flk_callpath_sites
    uint32_t scope;   // flk_scope_new
    uint32_t thread;  // flk_thread_ident_of
    uint16_t type;    // flk_type_intern
    uint8_t layer;    // an flk_layer
    uint8_t flags;
} flk_block;

// Paths with a meaning of their own: no frames; none at all (no memory, or a
// limit); to be taken from this thread's frames.
#define FLK_PATH_EMPTY 0
#define FLK_PATH_NONE 4294967295
#define FLK_PATH_WALK 4294967294

// Scopes: the process, which never ends; no scope (an allocation goes to the
// process scope of now); do not record the allocation.
#define FLK_SCOPE_PROCESS 0
#define FLK_SCOPE_NONE 4294967295
#define FLK_SCOPE_NOWHERE 4294967294

// A sequence number shifted right by so many bits is its tick, from 1 on.
#define FLK_TICK_SEQUENCE_SHIFT 20
#define FLK_TICK_NS 4194304

// --- types and places ---------------------------------------------------
typedef struct flk_name {
    const char *type;     // C type, "struct point"
    const char *kind;     // how it was made, "calloc"
    const char *release;  // what must release it, "free"
    uint32_t release_id;  // equal exactly when the release texts are
} flk_name;

// A place in Python code. Absent texts are "", absent numbers -1.
typedef struct flk_site_info {
    const char *function;  // qualified name; UTF-8, surrogates as three bytes
    const char *filename;
    int32_t line;
    int32_t column;  // bytes from the start of the line, 0 = first
} flk_site_info;

// A native frame. Its module is a file that was loaded at `base`; `offset`
// is an address of the file, inside the call. Symbols: of that file, if the
// table of its .eh_frame_hdr still has the fingerprint (FNV-1a of its first
// 4096 bytes; 0 = it has none).
typedef struct flk_native_place {
    const char *path;  // "" = code of no object: `offset` is from `base`
    uint64_t base;
    uint64_t offset;
    uint64_t fingerprint;
    uint32_t module;  // rises with each file at each place
} flk_native_place;

// --- misuse -------------------------------------------------------------
// Misuse, found before the C function runs. Good ones are not negative.
#define FLK_FREED 0              // it was recorded, now it is gone
#define FLK_NOT_RECORDED 1       // it was not; freed all the same
#define FLK_MAYBE_DOUBLE 2       // not recorded, but freed by us lately; freed
#define FLK_DOUBLE_FREE -1       // proven: its memory is still held back
#define FLK_INTERIOR_FREE -2     // inside the block, not its start
#define FLK_MISMATCHED_FREE -3   // must be released another way
#define FLK_OVERRUN -4           // freed, but its guard bytes were written over
#define FLK_WRITE_AFTER_FREE -5  // an earlier block was written to when free
#define FLK_NO_ROOM -6           // realloc: the C function said no

typedef struct flk_misuse {
    int32_t verdict;
    uint32_t free_path;  // where it was freed first, if it was
    uint32_t here_path;  // where this call comes from
    int32_t damage;      // offset of the first damaged byte, else 0
    flk_block block;     // the block concerned
} flk_misuse;

// --- events for observers -----------------------------------------------
#define FLK_OBSERVED_MADE 1
#define FLK_OBSERVED_FREED 2

typedef struct flk_observed {
    flk_block block;
    int32_t what;
    int32_t unused;
} flk_observed;

// --- figures ------------------------------------------------------------
// What was allocated by each path while somebody asked (flk_path_counts_request(1),
// until (-1)), freed or not. Counts rise for ever: differences tell.
typedef struct flk_path_counts {
    uint64_t blocks, bytes;
    uint32_t path, unused;
} flk_path_counts;

typedef struct flk_attach_figures {
    uint64_t attached, paused;         // 0 or 1
    uint64_t objects, objects_traced;  // loaded; allocations recorded
    uint64_t objects_left_out;         // no room in the table of callers
    uint64_t providers;                // allocators in the process
    uint64_t providers_left_out;       // of malloc, and not hooked: no room
    uint64_t slots;                    // hold a hook
    uint64_t unbound_slots;            // unbound when patched; ever
    uint64_t others_slots;             // hold another tool's function
    uint64_t malloc_slots;             // of malloc, calloc, realloc, free
    uint64_t malloc_slots_others;      // of these, hold another tool's function
    uint64_t retaken_slots;            // hooked, then changed by another tool
    uint64_t changed_pointers;         // in data; changed by the program itself
    uint64_t unwatched_slots;          // no room in the table of watched slots
    uint64_t unsettled_slots;          // still changing after all passes
    uint64_t failed_words;             // that could not be changed; ever
    uint64_t passes;                   // over all objects; ever
    uint64_t foreign_frees, mismatched_frees;
    uint64_t reentered, lost_in_fork, unknown_callers, returned_lost;
} flk_attach_figures;

#endif

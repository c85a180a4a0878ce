// values.h - numbers and plain structs that the core and Python share.       SPDX-License-Identifier: MIT
// Keeps:   nothing. Each value has one name for C, cffi and Python, and is defined here.
// Use:     read by the C compiler and by csrc/build_ffi.py, which passes all lines but preprocessor lines to cffi, and
//          of those `#define NAME integer`. So the file must not contain other macros or inline code.
#ifndef FLK_VALUES_H
#define FLK_VALUES_H

#include <stdint.h>

// --- blocks -------------------------------------------------------------
// In each layer an address has at most one live record.
typedef enum flk_layer {
    FLK_LAYER_MAPPING = 1,  // mmap
    FLK_LAYER_HEAP = 2,     // malloc and its kin
    FLK_LAYER_HANDLE = 3,   // an object of a library, wherever its memory is
    FLK_LAYER_OBJECT = 4,   // a Python object; in copies only, not in records
} flk_layer;

// A copy of the record of a block, for snapshots and misuse reports.
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

// Special path numbers. EMPTY: a path without frames. NONE: no path could be
// made (no memory, or a limit). WALK, for parameters: walk the frames of this
// thread.
#define FLK_PATH_EMPTY 0
#define FLK_PATH_NONE 4294967295
#define FLK_PATH_WALK 4294967294

// Rows of reports. NO_INDEX: null. ROW_BYTES: no row is longer: brackets, seven
// commas, three indexes, three numbers of 64 bits, two times.
#define FLK_NO_INDEX 4294967295
#define FLK_ROW_BYTES 160

// Special scope numbers. PROCESS: the whole process, which never ends. NONE: no
// scope; the allocation is counted in the current process scope. NOWHERE: the
// allocation is not recorded. UNCLAIMED: of a thread that no scope claims
// (registry/nesting.h).
#define FLK_SCOPE_PROCESS 0
#define FLK_SCOPE_NONE 4294967295
#define FLK_SCOPE_NOWHERE 4294967294
#define FLK_SCOPE_UNCLAIMED 4294967293

// A sequence number shifted right by this many bits is its clock tick. Ticks
// begin with 1.
#define FLK_TICK_SEQUENCE_SHIFT 20
#define FLK_TICK_NS 4194304

// --- types and places ---------------------------------------------------
typedef struct flk_name {
    const char *type;     // C type, "struct point"
    const char *kind;     // how it was allocated, "calloc"
    const char *release;  // the function that must release it, "free"
    uint32_t release_id;  // equal for equal release texts only
} flk_name;

// A place in Python code. Unknown texts are "", unknown numbers -1.
typedef struct flk_site_info {
    const char *function;  // qualified name; UTF-8, surrogates as three bytes
    const char *filename;
    int32_t line;
    int32_t column;  // bytes from the start of the line, 0 = first
} flk_site_info;

// A native frame. Its module is the file `path`, first loaded at `base`;
// `offset` is an address of that file, inside the call instruction. Symbols may
// be read from the file only if its .eh_frame_hdr table still has the
// fingerprint: FNV-1a of its first 4096 bytes, or 0 if it has no table.
typedef struct flk_native_place {
    const char *path;  // "" = code outside all objects, from `base` on
    uint64_t base;
    uint64_t offset;
    uint64_t fingerprint;
    uint32_t module;  // rises with each new file
} flk_native_place;

// --- misuse -------------------------------------------------------------
// The verdict on a free or realloc, found before the C function runs. Negative
// verdicts are misuse, or a failure.
#define FLK_FREED 0              // the block was recorded, and is freed
#define FLK_NOT_RECORDED 1       // it was not recorded; it is freed
#define FLK_DOUBLE_FREE -1       // proven: the block is in the quarantine
#define FLK_INTERIOR_FREE -2     // inside the block, not its start
#define FLK_MISMATCHED_FREE -3   // another function must release it
#define FLK_OVERRUN -4           // freed, but its guard bytes are damaged
#define FLK_WRITE_AFTER_FREE -5  // a block was written to after its free
#define FLK_NO_ROOM -6           // realloc: the C function returned NULL
#define FLK_SUSPECTED -7         // a counter: not proven

typedef struct flk_misuse {
    int32_t verdict;
    uint32_t free_path;  // the path of the first free, if there was one
    uint32_t here_path;  // the path of this call
    int32_t damage;      // offset of the first damaged byte, else 0
    int32_t suspected;   // 1: not proven, since the address may have been given
                         // out again by code that is not watched
    int32_t passed;      // 1: hooks passed the call on to the C function
    uint64_t address;    // that was released; 0: that of the block
    flk_block block;     // the block concerned
} flk_misuse;

// --- lost or held ---------------------------------------------------------
#define FLK_VERDICT_LOST 1        // nothing points into it
#define FLK_VERDICT_LOST_BELOW 2  // only lost blocks point into it
#define FLK_VERDICT_HELD 3        // a root points into it
#define FLK_VERDICT_HELD_BELOW 4  // a block that is held points into it

// What holds a block, as a number, if there is none or it is not known.
#define FLK_HOLDER_NONE 4294967295

// A root: memory that is reachable by itself.
#define FLK_HOLDER_UNTRACKED 0    // memory that no tracker records
#define FLK_HOLDER_PYTHON 1       // small objects of Python
#define FLK_HOLDER_MOVING 2       // a realloc that was under way
#define FLK_HOLDER_UNSEARCHED 3   // there was no room to look for pointers
#define FLK_HOLDER_DATA 4         // initialised data of an object
#define FLK_HOLDER_BSS 5          // other data of an object
#define FLK_HOLDER_STACK 6        // of a thread
#define FLK_HOLDER_THREAD_DATA 7  // thread-local variables of the main thread
#define FLK_HOLDER_REGISTERS 8    // of a thread
#define FLK_HOLDER_SHARED 9       // memory shared with other processes
#define FLK_HOLDER_NAME_BYTES 120
typedef struct flk_holder {
    uint32_t kind;
    uint32_t thread;  // its number; 0 = unknown; FLK_HOLDER_MAIN
    char name[120];   // file name of an object or of shared memory
} flk_holder;
#define FLK_HOLDER_MAIN 4294967295

// The memory of an object of one exact type of Python, so that what lies behind
// it in its block, left from an earlier object, is not taken for pointers.
#define FLK_PYTHON_TYPES_MAX 512
#define FLK_PYTHON_PLAIN 0   // bytes + item_bytes * size
#define FLK_PYTHON_NUMBER 1  // has no pointers: int, float
#define FLK_PYTHON_TEXT 2    // str: no pointers if it is compact ASCII
#define FLK_PYTHON_MODULE 3  // PLAIN; has a block for its state
#define FLK_PYTHON_LOCK 4    // PLAIN; has a block with a semaphore
#define FLK_PYTHON_LIST 5    // PLAIN; has an array that may be longer than it
#define FLK_PYTHON_DEQUE 6   // PLAIN; has blocks that it may use in part
#define FLK_PYTHON_SIZED_MODULE 7  // MODULE, of 3.15: it has the state's size
#define FLK_PYTHON_FRAME 8  // read whole, or not at all if no call uses it
#define FLK_PYTHON_CODE 9   // PLAIN; has a number that may not be set
typedef struct flk_python_type {
    uint64_t address;  // of the type
    uint32_t bytes;    // of an object, with what lies before it
    uint16_t item_bytes;
    uint8_t head_bytes;  // before the object: 16 if it is garbage collected
    uint8_t kind;        // FLK_PYTHON_...
    uint32_t text_state, text_mask;  // of compact ASCII: some bits of its state
} flk_python_type;

// Why there is no verdict.
#define FLK_LOST_FOUND 0  // there is one
#define FLK_LOST_NO_MEMORY -1
#define FLK_LOST_TOO_LONG -2
#define FLK_LOST_DIED -3        // the child was killed
#define FLK_LOST_IMPOSSIBLE -4  // no /proc, or not 64-bit Linux

// --- events for observers -----------------------------------------------
#define FLK_OBSERVED_MADE 1
#define FLK_OBSERVED_FREED 2

typedef struct flk_observed {
    flk_block block;
    int32_t what;
    int32_t unused;
} flk_observed;

// --- figures ------------------------------------------------------------
// Allocations of one path, freed or not, while counts of paths are requested:
// from flk_path_counts_request(1) to flk_path_counts_request(-1). Counts only
// rise; use the differences of two readings.
typedef struct flk_path_counts {
    uint64_t blocks, bytes;
    uint32_t path, unused;
} flk_path_counts;

typedef struct flk_attach_figures {
    uint64_t attached, paused;         // 0 or 1
    uint64_t objects, objects_traced;  // loaded; allocations recorded
    uint64_t objects_left_out;         // no room in the table of callers
    uint64_t ever_traced;              // 1: some object, since the last begin
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
    uint64_t copied_pointers;          // in variables, that were hooked; ever
    uint64_t unsearched_ranges;        // of writable data: no room in a table
    uint64_t unsettled_slots;          // still changing after all passes
    uint64_t failed_words;             // that could not be changed; ever
    uint64_t passes;                   // over all objects; ever
    uint64_t foreign_frees, mismatched_frees;
    uint64_t reentered, lost_in_fork, unknown_callers, returned_lost;
    uint64_t proof_blocks, brief_proofs;  // hooks/proof.h
} flk_attach_figures;

#endif

// api.h - the functions of this room that Python calls through cffi.       SPDX-License-Identifier: MIT
// Keeps:   one flag (flk_is_ready).
// Use:     read by the C compiler and, like base/values.h, by csrc/build_ffi.py. Functions of lower rooms that
//          Python calls directly are listed in api/lower.cdef. Parameters and results are plain values.
// Callers: any thread, with or without the GIL.
#ifndef FLK_API_H
#define FLK_API_H

#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

// --- life ---------------------------------------------------------------
// Starts the core. Called once, at import. `package_folder` is the folder of
// the Python package and ends with a separator. Returns NULL, or a text that
// says why Python frames cannot be read; everything else works then.
const char *flk_start(const char *package_folder);
// 0 if flk_start found no memory for the core.
int flk_is_ready(void);
// Python frames recorded for each block, 0 to flk_stack_depth_max(). A larger
// number is cut to the maximum.
void flk_set_stack_depth(uint32_t frames);
uint32_t flk_stack_depth(void);
uint32_t flk_stack_depth_max(void);
// Native frames recorded for each hooked allocation, 0 to
// flk_stack_depth_max(). The calling thread must not be inside the loader.
void flk_set_native_depth(uint32_t frames);
uint32_t flk_native_depth(void);

// --- types and paths ----------------------------------------------------
// The number of a (C type, kind, release). 0: no memory, or FLK_TYPES_MAX
// types exist.
uint16_t flk_type_intern(const char *type, const char *kind,
                         const char *release);
// The number of a path given as (code, line) pairs, innermost first; for
// interpreters whose frames the core cannot read. 0: no path.
uint32_t flk_path_of(const uint32_t *codes, const int32_t *lines, size_t count);

// --- blocks of the tracker's allocators ---------------------------------
// Allocates, and records the block while tracking is on. `alignment` is 0 or
// a power of two. Size 0 gets a block of its own. NULL: no memory.
void *flk_allocate(size_t size_bytes, size_t alignment, int zeroed,
                   uint16_t type, uint32_t scope, uint32_t path);
// The block's new address, or NULL. `out->verdict` gives the reason of NULL:
// FLK_FREED (the size was 0), FLK_NO_ROOM (the old block is unchanged), or a
// misuse.
void *flk_resize(void *address, size_t size_bytes, uint16_t type,
                 uint32_t scope, uint32_t path, flk_misuse *out);
void flk_configure(uint32_t quarantine_blocks, uint64_t quarantine_bytes,
                   int poison);
// Sets the guard bytes before and after each block that is made from now on.
// 0: done. -1: too many.
int flk_configure_guard(uint32_t guard_bytes);
void flk_configuration(uint32_t *quarantine_blocks, uint64_t *quarantine_bytes,
                       int *poison, uint32_t *guard_bytes);

// C function pointers for libraries that take allocators. Errors of their
// callers are queued (flk_misuse_pop). `opaque` selects the type of the
// block: a result of flk_opaque(type), or any other pointer for "void".
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
// The same without records. flk_c_free and flk_c_opaque_free free the blocks.
void *flk_plain_malloc(size_t size_bytes);
void *flk_plain_calloc(size_t count, size_t size_bytes);
void *flk_plain_realloc(void *address, size_t size_bytes);
void *flk_plain_opaque_malloc(void *opaque, size_t size_bytes);
void *flk_plain_opaque_calloc(void *opaque, size_t count, size_t size_bytes);
void *flk_plain_opaque_realloc(void *opaque, void *address, size_t size_bytes);
void *flk_plain_zalloc(void *opaque, unsigned int count,
                       unsigned int size_bytes);

// --- blocks that were allocated elsewhere -------------------------------
// 1: the block was recorded.
int flk_track(uint64_t address, uint64_t size_bytes, uint8_t layer,
              uint16_t type, uint32_t scope, uint32_t path);
// 1: the block was recorded until now; `out` may be NULL. A block with guard
// bytes stays recorded: only its record tells where its memory begins.
int flk_untrack(uint64_t address, uint8_t layer, flk_block *out);
// 1: a live block starts at the address.
int flk_find(uint64_t address, uint8_t layer, flk_block *out);
// 1: a live block contains the address behind its start.
int flk_find_containing(uint64_t address, uint8_t layer, flk_block *out);

// --- scopes -------------------------------------------------------------
// A new scope below `parent`; FLK_SCOPE_PROCESS is the root. Returns the
// number of the parent if FLK_SCOPES_MAX scopes exist.
uint32_t flk_scope_new(uint32_t parent, int isolated);
// The Python object of the scope was deleted.
void flk_scope_gone(uint32_t scope);
void flk_set_process_scope(uint32_t scope);

// --- figures ------------------------------------------------------------
typedef struct flk_figures {
    uint64_t allocations, frees, bytes_allocated, bytes_freed;
    int64_t peak_blocks, peak_bytes;  // upper bounds unless peak_exact
    int peak_exact;
} flk_figures;
void flk_scope_figures(uint32_t scope, flk_figures *out);
void flk_type_figures(uint16_t type, flk_figures *out);

typedef struct flk_thread_figures {
    uint32_t thread;  // 0: all threads that ended, and those without a number
    uint64_t ident;   // threading.get_ident(); 0 for ended threads
    uint64_t allocations, frees, bytes_allocated, bytes_freed;
} flk_thread_figures;
// One entry for each living thread, and one for all ended threads. Fills in
// at most `max` entries; returns how many there are.
size_t flk_threads_read(flk_thread_figures *out, size_t max);

typedef struct flk_self {
    uint64_t entries, capacity, regions, bytes;
    uint64_t paths, sites, codes, types, scopes, lingering_scopes, threads;
    uint64_t dropped, missed_frees, unknown_frees, scopes_dropped;
    uint64_t scope_unknown;
    // Paths recorded without all frames on a small signal stack; threads beyond
    // FLK_THREADS_MAX.
    uint64_t paths_cut, threads_unnumbered;
    uint64_t double_frees, interior_frees, mismatched_frees, damages;
    uint64_t suspected_frees;
    uint64_t held_blocks, held_bytes, longest_move;
    uint64_t open_scopes, pauses;
    uint64_t ever_enabled;   // 1 if tracking was on at any time, else 0
    uint64_t observed_lost;  // events that no observer got
    uint64_t types_merged;   // types that share one name: there are too many
    // Searches for lost blocks, and the most that one took: mapped memory, time
    // of the call, time in which allocations waited.
    uint64_t searches, search_bytes, search_ns, search_standing_ns;
} flk_self;
void flk_self_figures(flk_self *out);
// Sets the counters of events to 0, for a reset.
void flk_clear_counts(void);

// --- groups -------------------------------------------------------------
// The blocks of one path and one type, so also of one kind and one release.
typedef struct flk_group {
    uint64_t size_bytes;  // sum over its blocks
    uint64_t size_min, size_max;
    uint32_t path, type;
    uint32_t first, count;  // its members: members[first .. first + count)
} flk_group;
typedef struct flk_grouping {
    size_t count;
    flk_group *groups;  // ordered by their first block
    size_t group_capacity;
    uint32_t *members;  // indexes of blocks, rising within a group
    size_t member_count;
} flk_grouping;
// 0: done. -1: no memory; nothing is to be freed then. O(n); takes 8 bytes a
// block and 96 a group while it runs, half of that afterwards.
int flk_group_blocks(const flk_block *blocks, size_t count, flk_grouping *out);
void flk_grouping_free(flk_grouping *grouping);

// Positions in the tables of a report, or FLK_NO_INDEX.
typedef struct flk_row_indexes {
    uint32_t group, thread, scope;
} flk_row_indexes;
// Writes each block as "[group,address,size,sequence,time,age,thread,scope]",
// where the given address is the complement, as in copies (flk_snapshot_hide);
// with `separator` between two rows; returns the number of bytes written. Times
// are seconds with six decimals; `taken_at` is in seconds since 1970. There is
// room for count * (FLK_ROW_BYTES + strlen(separator)) bytes.
size_t flk_rows_print(const flk_block *blocks, const flk_row_indexes *indexes,
                      size_t count, double taken_at, const char *separator,
                      char *out, size_t room);

// The number of this thread in records, which is given to it if need be; 0: no
// memory, or FLK_THREADS_MAX threads were numbered.
uint32_t flk_thread_number(void);
// The same; 0 also if this thread was never recorded.
uint32_t flk_thread_number_if_any(void);

// --- hooks --------------------------------------------------------------
// Records what the selected loaded objects allocate from now on, while tracking
// is on; replaces an earlier selection. An attachment switches tracking on;
// flk_gate_set(false) and pauses switch it off. A rule is "+pattern" or
// "-pattern" (a path or its last part, with * and ?), or "|", which begins
// another request. 0: done. -1: not done; `reason` holds why.
int flk_hooks_attach(const char *const *rules, size_t rule_count,
                     int with_mappings, char *reason, size_t reason_bytes);
// No more allocations are recorded by hooks; records stay.
void flk_hooks_detach(void);
// Records one block for each `mean_bytes` allocated bytes, on average; 0
// records all. Call it only while no hooked block is recorded.
void flk_hooks_sample(uint64_t mean_bytes);

// --- signals ------------------------------------------------------------
// Installs a handler that writes a byte to a pipe and then calls the handler
// that was installed before. Returns the read end, or -1 with errno. The
// caller reads it and closes it after the end of file.
// `ends_in_ms`: 0, or the signal is to end the process, which the caller does
// after what it has to do. The default action follows if the caller takes
// longer, and at the second signal. -1 with EBUSY if the signal has another
// action already, and with ENOSYS where there is no timer.
int flk_signal_begin(int signal_number, int ends_in_ms);
// Restores the earlier handler; the reader meets the end of file.
void flk_signal_end(int signal_number);

#endif

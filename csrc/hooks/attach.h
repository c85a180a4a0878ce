// attach.h - sees the allocations of chosen libraries, or of the process, from now on.  SPDX-License-Identifier: MIT
// Keeps:   whether it is attached and to what; nothing for each object, so those that go are forgotten by themselves.
// Cost:    begin, refresh and end O(relocations by name of all objects): some milliseconds; refresh O(1) when no
//          object came or went. Paused or ended hooks cost one load and a branch.
// Callers: any thread, without the GIL (the loader's locks are taken), and not from inside dl_iterate_phdr. Lock
//          rank: FLK_RANK_ATTACH. Other threads may allocate, load, unload and fork meanwhile.
// Fails:   begin says no, with a reason to show, and changes nothing; words that cannot be changed are counted.
// Invariant: hooks are never unloaded: what still points at them after end passes on to the original functions.
#ifndef FLK_ATTACH_H
#define FLK_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

typedef struct flk_attach_options {
    // Objects to record allocations of: rules of hooks/selection.h. Never the
    // loader and this module; what defines an allocator itself (the C
    // library) only where a pattern names it.
    const char *const *rules;
    size_t rule_count;
    int with_mappings;  // mmap, munmap, mremap too
} flk_attach_options;

// 0 done, -1 not: `reason` then says why. Attached already: the new options
// take the place of the old ones.
int flk_attach_begin(const flk_attach_options *options, char *reason,
                     size_t reason_bytes);
// Objects that came since are patched; undone patches are done again. To be
// called when a scope opens, a snapshot is taken, a library was loaded.
void flk_attach_refresh(void);
// The lock of attach, for whoever else patches loaded objects.
void flk_attach_hold(void);
void flk_attach_let_go(void);
// No more allocations are recorded; frees still are honoured. Not nested.
void flk_attach_pause(int is_paused);
// Every word that is still ours holds its own function again. Records stay.
void flk_attach_end(void);
// After end, when the snapshot was taken: drops the records that hooks made,
// because frees of their blocks are not seen any more. They are forgotten, as
// though never made. Returns how many. O(records).
uint64_t flk_attach_drop(void);

// Did a pattern to include match an object at some pass since the last begin?
bool flk_attach_has_met(const char *pattern);
void flk_attach_read(flk_attach_figures *out);
void flk_attach_clear_counts(void);

#endif

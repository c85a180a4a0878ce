// attach.h - records the allocations of selected libraries, or of the process.  SPDX-License-Identifier: MIT
// Keeps:   whether hooks are attached and how; nothing for each object, so an unloaded object needs no clean-up.
// Cost:    begin and end O(relocations by name of all objects): some milliseconds. Refresh one load a hooked slot, when
//          nothing was loaded, unloaded or changed. Paused or ended hooks cost one load and a branch.
// Callers: any thread, without the GIL (the loader's locks are taken), and not from inside dl_iterate_phdr. Lock
//          rank: FLK_RANK_ATTACH. Other threads may allocate, load, unload and fork meanwhile.
// Fails:   begin returns -1 with a reason to show, and changes nothing; words that cannot be changed are counted.
// Invariant: hooks are never unloaded: a call that reaches one after end goes on to the original function.
#ifndef FLK_ATTACH_H
#define FLK_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/values.h"

typedef struct flk_attach_options {
    // Which objects are traced: rules of hooks/selection.h. The loader and
    // this module never are; an object that defines an allocator (the C
    // library) only if a pattern names it.
    const char *const *rules;
    size_t rule_count;
    int with_mappings;  // mmap, munmap, mremap too
} flk_attach_options;

// 0: done. -1: not; `reason` says why. While attached, the new options replace
// the old ones. Otherwise a session begins: what is allocated by calls that
// start after begin has returned is recorded, and so are all their frees.
int flk_attach_begin(const flk_attach_options *options, char *reason,
                     size_t reason_bytes);
// Patches objects that were loaded since, and slots that were changed since.
// To be called when a scope opens, a snapshot is taken, a library was loaded.
void flk_attach_refresh(void);
// The lock of attach, for other code that patches loaded objects.
void flk_attach_lock(void);
void flk_attach_unlock(void);
// Allocations are no longer recorded; frees still remove records. Not nested.
void flk_attach_pause(int is_paused);
// Ends the session: every slot that holds a hook gets its own function back.
// Records stay, and no hook enters another one after end has returned.
void flk_attach_end(void);
// After end, when the snapshot was taken: drops the records that hooks made,
// because no hook will see their frees. They are forgotten as if they had
// never been made. Returns how many. O(records).
uint64_t flk_attach_drop(void);

// Whether a rule to include matched an object at some pass since the last
// begin.
bool flk_attach_has_met(const char *rule);
// Whether a rule matches an object of these paths: as the loader has it, and
// absolute.
bool flk_attach_fits(const char *rule, const char *path, const char *absolute);
// The loaded objects, as flk_passes_list() of hooks/passes.h has them; 0 before
// the first begin.
size_t flk_attach_list(char *out, size_t out_bytes);
void flk_attach_read(flk_attach_figures *out);
void flk_attach_clear_counts(void);

#endif

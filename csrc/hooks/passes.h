// passes.h - goes over all loaded objects: who is there, what is to be patched.  SPDX-License-Identifier: MIT
// Keeps:   what the loader had loaded at the last round, and figures.
// Cost:    O(relocations by name of all objects) a round; is_due O(1).
// Callers: under FLK_RANK_ATTACH; takes the loader's lock of its list (dl_iterate_phdr), not the one that
//          constructors run under.
// Fails:   collect says false when there are more providers of malloc than hook sets.
// Invariant: exports are patched before slots, slots until one pass changes nothing: what is looked up meanwhile
//            is a hook already, and what was looked up before is met by a later pass.
#ifndef FLK_PASSES_H
#define FLK_PASSES_H

#include "base/platform.h"
#include "hooks/attach.h"

#ifdef FLK_HAS_ELF
// Who defines allocators, whose code lies where, who is asked for.
bool flk_passes_collect(void);
// After collect: every word leads to a hook, or to its own function again.
void flk_passes_patch(bool is_hooked, bool with_mappings);
// Did objects come or go, or may a slot have been bound late?
bool flk_passes_are_due(void);
void flk_passes_read(flk_attach_figures *out);
#endif
#endif

// passes.h - passes over all loaded objects: providers, callers, exports, slots.  SPDX-License-Identifier: MIT
// Keeps:   the loader's counts of loaded and unloaded objects at the last pass, and figures.
// Cost:    a pass is O(relocations by name of all objects); are_due: one load for each hooked slot.
// Callers: under FLK_RANK_ATTACH. Takes the loader's lock of its list (dl_iterate_phdr), not the one that constructors
//          run under.
// Fails:   collect returns false when more than FLK_PROVIDERS_MAX objects define malloc.
// Invariant: exports are patched before slots, and slots until a pass over them changes nothing. So what is looked up
//            meanwhile is a stub already, and what was looked up before is found by a later pass.
#ifndef FLK_PASSES_H
#define FLK_PASSES_H

#include <stddef.h>

#include "base/platform.h"
#include "base/values.h"

#ifdef FLK_HAS_ELF
// Finds providers, address ranges of callers, and which objects are traced.
bool flk_passes_collect(void);
// After collect: every slot and export leads to a stub, or to its own
// function again.
void flk_passes_patch(bool is_hooked, bool with_mappings);
// Then the same for copied pointers in the variables of programs. Not in hooks:
// it reads all writable data.
void flk_passes_patch_copies(void);
// Whether an object was loaded or unloaded after the last pass, or a slot
// changed.
bool flk_passes_are_due(void);
// A session begins: figures that count since then start at 0.
void flk_passes_begin_session(void);
// Other objects are selected from now on.
void flk_passes_select_anew(void);
void flk_passes_read(flk_attach_figures *out);
// The loaded objects but the loader and this module: for each one '+' if it is
// traced, else '-', its path as the loader has it, a zero byte, its absolute
// path if that is known, else the same, and a zero byte. Returns how many bytes
// that needs; only whole entries are written.
size_t flk_passes_list(char *out, size_t out_bytes);
#endif
#endif

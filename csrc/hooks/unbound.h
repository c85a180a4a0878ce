// unbound.h - slots that were not bound yet when they were patched.      SPDX-License-Identifier: MIT
// Keeps:   what they held, so that they are unbound again afterwards; a fixed table.
// Cost:    O(entries) each. Callers: under FLK_RANK_ATTACH.
// Fails:   no room: the slot ends bound to its own function, as its first call would have left it.
// Invariant: nothing is kept across the unloading of any object: another one may lie there then.
#ifndef FLK_UNBOUND_H
#define FLK_UNBOUND_H

#include <stdint.h>

// The first one told counts.
void flk_unbound_note(const uintptr_t *word, uintptr_t value);
// What it held; 0: not known.
uintptr_t flk_unbound_value(const uintptr_t *word);
void flk_unbound_clear(void);

#endif

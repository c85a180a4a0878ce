// stubs.h - the functions that slots and export tables lead to.              SPDX-License-Identifier: MIT
// Keeps:   one stub for each provider, via and function, and where the stubs lie.
// Cost:    off or idle: a stub is one load, a branch and a jump to the original. find: fast for other addresses.
// Callers: under FLK_RANK_ATTACH. (The stubs themselves are called by any code, in any thread.)
// Fails:   never.
// Invariant: stubs are never unloaded.
#ifndef FLK_STUBS_H
#define FLK_STUBS_H

#include "hooks/stub_table.h"

#ifdef FLK_HAS_ELF
uintptr_t flk_stubs_at(unsigned provider, flk_function function, flk_via via);
// The lowest and the highest address of a stub.
void flk_stubs_span(uintptr_t *first, uintptr_t *last);
// Whether the address is a stub, and which one.
bool flk_stubs_find(uintptr_t address, unsigned *provider,
                    flk_function *function, flk_via *via);
#endif
#endif

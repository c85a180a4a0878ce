// behalf.h - whether a call that came by no slot of a traced object is recorded. SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    a search of hooks/callers.h. For a call of a C++ runtime also a walk of the stack to its caller: 10 ns a
//          frame.
// Callers: hooks, in any thread, outside the guard.
// Fails:   what cannot be found out is not recorded, and counted (FLK_HOOK_UNKNOWN_CALLERS).
#ifndef FLK_BEHALF_H
#define FLK_BEHALF_H

#include "hooks/stub_table.h"

#ifdef FLK_HAS_ELF
// For a call by any route; `caller` is the return address. The callers of
// looked-up functions are their objects: tail calls are not seen, but for the
// first call of an object that was loaded since the last pass.
bool flk_behalf_is_recorded(uint32_t stub, const void *caller);
// Whether a call is a part of a provider's function that is running.
bool flk_behalf_is_inner(const void *caller);
#endif
#endif

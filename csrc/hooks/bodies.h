// bodies.h - what runs in place of malloc, free, strdup and their kin.       SPDX-License-Identifier: MIT
// Keeps:   nothing; what is on the way of the C library stands in the thread's marks.
// Cost:    off or idle: one load and a branch. Frees: one probe of the registry. Recorded: one event of
//          tracker/tracker.h.
// Callers: any thread, at any time, with any lock of theirs held: no hook allocates, waits for the loader or the
//          GIL, or changes errno. Inside the guard, or in a fork, events are counted or put off.
// Fails:   never to the caller, who gets what the original function returns.
// Invariant: hooks of provider d call d's own functions and no other's.
#ifndef FLK_BODIES_H
#define FLK_BODIES_H

#include "hooks/stubs.h"

#ifdef FLK_HAS_ELF
// The type to record an allocation under; 0: it is not asked for.
uint16_t flk_bodies_type_elsewhere(uint32_t site, const void *caller,
                                   const flk_marks *marks);
static inline uint16_t flk_bodies_type_traced(uint32_t site, const void *caller,
                                              const flk_marks *marks) {
    return FLK_LIKELY(flk_stubs_via(site) == FLK_VIA_TRACED)
               ? flk_stubs_type(site)
               : flk_bodies_type_elsewhere(site, caller, marks);
}

// They take and return words, as both ABIs pass pointers and sizes: words a
// function has no parameter for are not read by it. Never inlined: there is
// a stub for each provider, way and function.
FLK_NOINLINE uintptr_t flk_bodies_allocate(uintptr_t a, uintptr_t b,
                                           uintptr_t c, uint32_t site,
                                           const void *caller);
FLK_NOINLINE uintptr_t flk_bodies_place(uintptr_t a, uintptr_t b, uintptr_t c,
                                        uint32_t site, const void *caller);
FLK_NOINLINE uintptr_t flk_bodies_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                                         uint32_t site, const void *caller);
// free: as release, shorter where it is the innermost of its kind.
FLK_NOINLINE uintptr_t flk_bodies_free(uintptr_t a, uintptr_t b, uintptr_t c,
                                       uint32_t site);
FLK_NOINLINE uintptr_t flk_bodies_release(uintptr_t a, uintptr_t b, uintptr_t c,
                                          uint32_t site);
FLK_NOINLINE uintptr_t flk_bodies_return(uintptr_t a, uintptr_t b, uintptr_t c,
                                         uintptr_t d, uint32_t site,
                                         const void *caller);
#endif
#endif

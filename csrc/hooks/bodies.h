// bodies.h - what runs in place of malloc, free, realloc and similar functions.   SPDX-License-Identifier: MIT
// Keeps:   nothing; what a function of the C library allocates for its caller is noted (hooks/returned.h).
// Cost:    off or idle: one load and a branch. A release: one probe of the registry. A recorded block: one event of
//          tracker/tracker.h.
// Callers: stubs, in any thread, at any time, whatever locks the application holds: no hook allocates, waits for the
//          loader or the GIL, or changes errno. Inside the guard and during a fork events are counted or put off.
// Fails:   never to the caller, which gets what the original function returns.
// Invariant: hooks of provider d call functions of d and of no other provider.
#ifndef FLK_BODIES_H
#define FLK_BODIES_H

#include "hooks/returned.h"
#include "hooks/stub_table.h"
#include "registry/registry.h"

#ifdef FLK_HAS_ELF
// Whether an allocating function of a provider is running that allocates
// inside. `here` is FLK_STACK_HERE.
static inline bool flk_bodies_is_allocating(uintptr_t here) {
    uintptr_t frame = flk_platform_thread_marks()->allocating_frame;
    return frame && !flk_returned_is_left_behind(frame, here);
}
// Whether the calling object is traced. `caller` is the return address.
bool flk_bodies_is_traced(uint32_t stub, const void *caller);

// Whether an address is being released by an outer hook of this thread.
bool flk_bodies_is_inner_release(const flk_marks *marks, uintptr_t a,
                                 uintptr_t here);

// A block is being released by the function of this stub. False: that is proven
// misuse, and is not to be passed on.
bool flk_bodies_gone(uintptr_t a, uint32_t stub, uintptr_t caller);

// The end of a move that flk_report_moves began. Whether the block is recorded:
// a sampled block is drawn again.
bool flk_bodies_end_move(uintptr_t from, const flk_record *record, uintptr_t to,
                         uint64_t size_bytes);

// One body for each shape; never inlined, because there is a stub for each
// provider, via and function.
FLK_NOINLINE uintptr_t flk_bodies_allocate(uintptr_t a, uintptr_t b,
                                           uintptr_t c, uint32_t stub,
                                           const void *caller);
FLK_NOINLINE uintptr_t flk_bodies_place(uintptr_t a, uintptr_t b, uintptr_t c,
                                        uint32_t stub, const void *caller);
FLK_NOINLINE uintptr_t flk_bodies_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                                         uint32_t stub, const void *caller);
// malloc by a slot of a traced object while hooks are on, no mark is set, and
// the provider does not allocate inside. `session` was read before the state.
FLK_NOINLINE uintptr_t flk_bodies_malloc(uintptr_t size_bytes,
                                         const flk_stub_entry *entry,
                                         uintptr_t original, uint32_t session);
// An allocation by a slot of an untraced object while a function of the C library
// runs for a traced caller (hooks/returned.h).
FLK_NOINLINE uintptr_t flk_bodies_note(uintptr_t a, uintptr_t b, uintptr_t c,
                                       uint32_t stub, const void *caller);
// free of an address that is not NULL: does what release does, in fewer
// instructions, where no provider's free can call another provider's free.
FLK_NOINLINE uintptr_t flk_bodies_free(uintptr_t a, const flk_stub_entry *entry,
                                       uintptr_t original);
FLK_NOINLINE uintptr_t flk_bodies_release(uintptr_t a, uintptr_t b, uintptr_t c,
                                          uint32_t stub);
#endif
#endif

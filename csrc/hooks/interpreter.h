// interpreter.h - memory that extensions take from Python's allocators.      SPDX-License-Identifier: MIT
// Keeps:   counts of recorded blocks by a hash of their address, so that a free of any other block is passed on after
//          one load. Whether frees of each domain are seen.
// Cost:    an allocation: one event. A free by the interpreter of a block that is not recorded: one load, and one more
//          where a recorded block lies within 16 KiB.
// Callers: make, resize, text: stubs. free, move: the allocators of the interpreter, which python/memory.c wraps, in any
//          thread, with or without the GIL.
// Fails:   frees of a domain cannot be seen: its blocks are not recorded.
// Invariant: a count is at least the number of recorded blocks with that hash, from before the caller gets the block
//          until its record is removed.
#ifndef FLK_INTERPRETER_H
#define FLK_INTERPRETER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// As in the interpreter (PyMemAllocatorDomain).
typedef enum flk_domain {
    FLK_DOMAIN_RAW,
    FLK_DOMAIN_MEM,
    FLK_DOMAIN_OBJECT,
    FLK_DOMAIN_COUNT,
} flk_domain;

// `begin` makes frees of a domain visible, if they are not yet; false: it
// cannot. `end` takes back what begin did in all domains. Set once.
void flk_interpreter_set_watch(bool (*begin)(flk_domain domain),
                               void (*end)(void));
// The allocators may have been replaced: begin is called again before the next
// block is recorded.
void flk_interpreter_check_later(void);
// After the end of a session: no block is recorded any more.
void flk_interpreter_forget(void);

// --- counts by address ---------------------------------------------------
enum {
    FLK_COARSE_SHIFT = 14,  // a pool of the interpreter's allocator
    FLK_COARSE_COUNT = 1 << 16,
    FLK_FINE_SHIFT = 4,
    FLK_FINE_COUNT = 1 << 19,
};
typedef struct flk_interpreter_counts {
    // Relaxed: the thread that frees a block has got it from the one that allocated it.
    _Atomic uint16_t coarse[FLK_COARSE_COUNT];
    _Atomic uint16_t fine[FLK_FINE_COUNT];
} flk_interpreter_counts;
extern flk_interpreter_counts flk_interpreter_live;

static inline _Atomic uint16_t *flk_interpreter_coarse(uintptr_t address) {
    return &flk_interpreter_live
                .coarse[address >> FLK_COARSE_SHIFT & (FLK_COARSE_COUNT - 1)];
}

static inline _Atomic uint16_t *flk_interpreter_fine(uintptr_t address) {
    return &flk_interpreter_live
                .fine[address >> FLK_FINE_SHIFT & (FLK_FINE_COUNT - 1)];
}

// False: the block is not recorded.
static inline bool flk_interpreter_may_hold(const void *block) {
    uintptr_t address = (uintptr_t)block;
    return atomic_load_explicit(flk_interpreter_coarse(address),
                                memory_order_relaxed) &&
           atomic_load_explicit(flk_interpreter_fine(address),
                                memory_order_relaxed);
}

// --- events --------------------------------------------------------------
// In place of free and realloc of a domain, for a block that may be recorded.
void flk_interpreter_free(flk_domain domain, void *context, void *block,
                          void (*original)(void *, void *));
void *flk_interpreter_move(flk_domain domain, void *context, void *block,
                           size_t size_bytes,
                           void *(*original)(void *, void *, size_t));
// Whether calls of free in this domain reach flk_interpreter_free: `block` is
// passed to `release`, which frees it.
bool flk_interpreter_sees(void *block, void (*release)(void *));

#include "hooks/stub_table.h"
#ifdef FLK_HAS_ELF
uintptr_t flk_interpreter_make(uintptr_t a, uintptr_t b, uintptr_t c,
                               uint32_t stub, const void *caller);
uintptr_t flk_interpreter_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                                 uint32_t stub, const void *caller);
uintptr_t flk_interpreter_text(uintptr_t a, uintptr_t b, uintptr_t c,
                               uint32_t stub, const void *caller);
#endif
#endif

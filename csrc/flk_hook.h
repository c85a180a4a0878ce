// flk_hook.h - what runs in place of malloc, free and their kin.             SPDX-License-Identifier: MIT
// Keeps:   for each definer (an object that defines an allocator) the addresses of its own functions, the types
//          of what they make, and counters. Hooks of definer d call d's functions and nobody else's.
// Cost:    off or idle: one load and a branch. Frees: one probe of the registry. Recorded: one event of flk_tracker.h.
// Callers: any thread, at any time, with any lock of theirs held: no hook allocates, waits for the loader or the
//          GIL, or changes errno. Inside the guard, or in a fork, events are counted or put off.
// Fails:   never to the caller, who gets what the original function returns.
// Invariant: stubs are never unloaded, and the addresses of a definer are complete before any word points at its
//          hooks (written under FLK_RANK_ATTACH, before the patch; kept after detach).
#ifndef FLK_HOOK_H
#define FLK_HOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "flk_platform.h"

#ifdef FLK_HAS_ELF
#include "flk_family.h"

// How reports name the way their blocks were made.
#define FLK_HOOK_KIND "hook"
enum { FLK_DEFINERS_MAX = 4 };  // allocators in one process

#define FLK_FAMILY_ID(x_, id, symbol, text, shape, sizes, release) FLK_FN_##id,
typedef enum flk_function {
    FLK_FAMILY(FLK_FAMILY_ID, 0) FLK_FN_COUNT
} flk_function;

typedef enum flk_shape {
    FLK_SHAPE_ALLOCATE,
    FLK_SHAPE_PLACE,  // posix_memalign
    FLK_SHAPE_RESIZE,
    FLK_SHAPE_RELEASE,
    FLK_SHAPE_LEND,   // returns what libc's malloc made
    FLK_SHAPE_PRINT,
    FLK_SHAPE_PRINT_CHK,
    FLK_SHAPE_MAP,
    FLK_SHAPE_UNMAP,
    FLK_SHAPE_REMAP,
} flk_shape;

typedef enum flk_sizes {
    FLK_SIZES_NONE,
    FLK_SIZES_FIRST,
    FLK_SIZES_SECOND,
    FLK_SIZES_THIRD,
    FLK_SIZES_PRODUCT,        // first times second
    FLK_SIZES_PRODUCT_AFTER,  // second times third
    FLK_SIZES_RETURNED,       // none: which block is the caller's
    FLK_SIZES_POINTED,
    FLK_SIZES_ALL,
} flk_sizes;

typedef struct flk_function_info {
    const char *symbol, *text, *release;
    flk_shape shape;
    flk_sizes sizes;
} flk_function_info;
extern const flk_function_info flk_hook_info[FLK_FN_COUNT];

// By which way a call comes to a hook.
typedef enum flk_via {
    FLK_VIA_ASKED,   // a slot of an object that is asked for
    FLK_VIA_QUIET,   // a slot of another one: recorded only on behalf
    FLK_VIA_EXPORT,  // looked up: the return address says who calls
    FLK_VIA_COUNT,
} flk_via;

typedef enum flk_hooks_state {
    FLK_HOOKS_OFF,     // pass everything on
    FLK_HOOKS_IDLE,    // the same: paused, and no block is recorded
    FLK_HOOKS_NEARLY_IDLE,  // as paused, while that is found out
    FLK_HOOKS_PAUSED,  // frees and moves only
    FLK_HOOKS_ON,
} flk_hooks_state;

// --- for who patches ---------------------------------------------------
// Makes the types. False: no memory for them.
bool flk_hook_init(void);
void flk_hook_set_state(flk_hooks_state state);
flk_hooks_state flk_hook_state(void);
// Paused becomes idle if no block is recorded that hooks can see freed, until
// one is. O(regions).
void flk_hook_idle_if_empty(void);
// FLK_FN_COUNT: not in the family.
flk_function flk_hook_named(const char *symbol);
uintptr_t flk_hook_stub(unsigned definer, flk_function function, flk_via via);
// Is it a stub, and which? Fast when it is not.
bool flk_hook_is_stub(uintptr_t address, unsigned *definer,
                      flk_function *function, flk_via *via);
void flk_hook_set_original(unsigned definer, flk_function function,
                           uintptr_t address);
uintptr_t flk_hook_original(unsigned definer, flk_function function);
// The allocations of the definer's own code are asked for too.
void flk_hook_ask_definer(unsigned definer, bool is_asked);

// --- fork --------------------------------------------------------------
// Between these, events of this thread are put off: it holds all locks.
void flk_hook_fork_begins(void);
void flk_hook_fork_ends(void);

// --- figures -----------------------------------------------------------
typedef enum flk_hook_counter {
    FLK_HOOK_FOREIGN_FREES,     // of blocks never recorded
    FLK_HOOK_MISMATCHED_FREES,  // freed another way than made
    FLK_HOOK_REENTERED,         // events inside the guard: not recorded
    FLK_HOOK_LOST_IN_FORK,      // more were put off than there is room for
    FLK_HOOK_UNKNOWN_CALLERS,   // looked-up calls from no known object
    FLK_HOOK_COUNTERS,
} flk_hook_counter;
uint64_t flk_hook_counted(flk_hook_counter counter);
void flk_hook_clear_counts(void);

// --- for the stubs -----------------------------------------------------
uint16_t flk_hook_type(flk_function function);
// A site is definer, via and function in one number.
#define FLK_SITE(definer, via, function) \
    ((uint32_t)(definer) | (uint32_t)(via) << 2 | (uint32_t)(function) << 4)
// They take and return words, as both ABIs pass pointers and sizes: words a
// function has no parameter for are not read by it. Never inlined: there is
// a stub for each definer, way and function.
FLK_NOINLINE uintptr_t flk_hook_allocate(uintptr_t a, uintptr_t b,
                                         uintptr_t c, uint32_t site,
                                         const void *caller);
FLK_NOINLINE uintptr_t flk_hook_place(uintptr_t a, uintptr_t b, uintptr_t c,
                                      uint32_t site, const void *caller);
FLK_NOINLINE uintptr_t flk_hook_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                                       uint32_t site, const void *caller);
// free: as release, shorter where it is the innermost of its kind.
FLK_NOINLINE uintptr_t flk_hook_free(uintptr_t a, uintptr_t b, uintptr_t c,
                                     uint32_t site);
FLK_NOINLINE uintptr_t flk_hook_release(uintptr_t a, uintptr_t b,
                                        uintptr_t c, uint32_t site);
FLK_NOINLINE uintptr_t flk_hook_lend(uintptr_t a, uintptr_t b, uintptr_t c,
                                     uintptr_t d, uint32_t site,
                                     const void *caller);
// mmap, munmap, mremap: six words each.
FLK_NOINLINE uintptr_t flk_hook_map(const uintptr_t *words, uint32_t site,
                                    const void *caller);

#endif
#endif

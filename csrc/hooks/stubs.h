// stubs.h - the stubs that stand in for hooked functions, and the table of what each stub means.  SPDX-License-Identifier: MIT
// Keeps:   for each stub (a provider, a way and a function) the address of the original, the type of what it makes,
//          and how its words are read, in one cache line; the state of all hooks.
// Cost:    off or idle: one load and a branch. A table look-up is one load.
// Callers: hooks read in any thread. The part for patching: under FLK_RANK_ATTACH.
// Fails:   no memory for the types: flk_stubs_init returns false, and nothing may be patched.
// Invariant: stubs are never unloaded. The originals of a provider are complete before any word points at its
//          stubs (written under FLK_RANK_ATTACH, before the patch), and stay after detach.
#ifndef FLK_STUBS_H
#define FLK_STUBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include "hooks/functions.h"

// How reports name the way their blocks were made.
#define FLK_HOOK_KIND "hook"
enum { FLK_PROVIDERS_MAX = 4 };  // allocators in one process

// By which way a call comes to a hook.
typedef enum flk_via {
    FLK_VIA_TRACED,    // a slot of an object that is asked for
    FLK_VIA_UNTRACED,  // a slot of another one: recorded only on behalf
    FLK_VIA_EXPORT,    // looked up: the return address says who calls
    FLK_VIA_COUNT,
} flk_via;

typedef enum flk_hooks_state {
    FLK_HOOKS_OFF,          // pass everything on
    FLK_HOOKS_IDLE,         // the same: paused, and no block is recorded
    FLK_HOOKS_NEARLY_IDLE,  // as paused, while that is found out
    FLK_HOOKS_PAUSED,       // frees and moves only
    FLK_HOOKS_ON,
} flk_hooks_state;

// --- for who patches ---------------------------------------------------
// Makes the types. False: no memory for them.
bool flk_stubs_init(void);
void flk_stubs_set_state(flk_hooks_state state);
flk_hooks_state flk_stubs_read_state(void);
// Paused becomes idle if no block is recorded that hooks can see freed, until
// one is. O(regions).
void flk_stubs_idle_if_empty(void);
uintptr_t flk_stubs_at(unsigned provider, flk_function function, flk_via via);
// Is it a stub, and which? Fast when it is not.
bool flk_stubs_find(uintptr_t address, unsigned *provider,
                    flk_function *function, flk_via *via);
void flk_stubs_set_original(unsigned provider, flk_function function,
                            uintptr_t address);
uintptr_t flk_stubs_original_of(unsigned provider, flk_function function);
// The allocations of the provider's own code are asked for too.
void flk_stubs_trace_provider(unsigned provider, bool is_traced);

uint16_t flk_stubs_type_of(flk_function function);

// --- the table ---------------------------------------------------------
// A site is provider, via and function in one number.
#define FLK_SITE(provider, via, function) \
    ((uint32_t)(provider) | (uint32_t)(via) << 2 | (uint32_t)(function) << 4)
typedef uintptr_t (*flk_function_of_3)(uintptr_t, uintptr_t, uintptr_t);
typedef uintptr_t (*flk_function_of_4)(uintptr_t, uintptr_t, uintptr_t,
                                       uintptr_t);
typedef uintptr_t (*flk_function_of_6)(uintptr_t, uintptr_t, uintptr_t,
                                       uintptr_t, uintptr_t, uintptr_t);

// What a stub stands for. All relaxed. Written before any word points at a
// hook of the provider, constant while one does.
typedef struct flk_stubs_entry {
    atomic_uintptr_t original;
    _Atomic uint16_t type;  // of what it makes
    _Atomic uint8_t sizes;  // an flk_sizes
    atomic_bool is_traced;  // the provider's own code is asked for as well
} flk_stubs_entry;
_Static_assert(sizeof(flk_stubs_entry) == 2 * sizeof(void *), "an index away");

typedef struct flk_stubs_table {
    _Alignas(64) atomic_int state;  // relaxed: an flk_hooks_state
    atomic_bool has_one_free;  // relaxed: no provider's free stands on another
    _Alignas(64) flk_stubs_entry entries[FLK_SITE(0, 0, FLK_FN_COUNT)];
} flk_stubs_table;
extern flk_stubs_table flk_stubs_now;
#define FLK_STUB_GET(site, field)                            \
    atomic_load_explicit(&flk_stubs_now.entries[site].field, \
                         memory_order_relaxed)

static inline flk_function flk_stubs_function(uint32_t site) {
    return (flk_function)(site >> 4);
}

static inline flk_via flk_stubs_via(uint32_t site) {
    return (flk_via)(site >> 2 & 3);
}
_Static_assert(FLK_PROVIDERS_MAX == 4 && FLK_VIA_COUNT <= 4, "FLK_SITE");

// A processor may see the patched word before the original, though it was
// written first: then the original comes in a moment.
static inline __attribute__((cold)) uintptr_t flk_stubs_wait(uint32_t site) {
    enum { LOOKS_MAX = 100000000 };  // no processor takes a second
    uintptr_t original = 0;
    for (uint32_t i = 0; i < LOOKS_MAX && !original; i++)
        original = atomic_load_explicit(&flk_stubs_now.entries[site].original,
                                        memory_order_acquire);
    if (!original)
        flk_platform_fatal("a hook without an original", __FILE__, __LINE__);
    return original;
}

static inline uintptr_t flk_stubs_original(uint32_t site) {
    uintptr_t original = FLK_STUB_GET(site, original);
    return FLK_LIKELY(original != 0) ? original : flk_stubs_wait(site);
}

static inline flk_hooks_state flk_stubs_state(void) {
    return (flk_hooks_state)atomic_load_explicit(&flk_stubs_now.state,
                                                 memory_order_relaxed);
}

// Off or idle.
static inline bool flk_stubs_is_off(void) {
    return flk_stubs_state() <= FLK_HOOKS_IDLE;
}
_Static_assert(FLK_HOOKS_OFF < FLK_HOOKS_IDLE &&
                   FLK_HOOKS_IDLE < FLK_HOOKS_PAUSED,
               "in order of how much they see");

static inline uint16_t flk_stubs_type(uint32_t site) {
    return FLK_STUB_GET(site, type);
}

// How many bytes a call with these words asks for.
uint64_t flk_stubs_size_other(flk_sizes sizes, uintptr_t a, uintptr_t b,
                              uintptr_t c);
static inline uint64_t flk_stubs_size(uint32_t site, uintptr_t a, uintptr_t b,
                                      uintptr_t c) {
    flk_sizes sizes = (flk_sizes)FLK_STUB_GET(site, sizes);
    return FLK_LIKELY(sizes == FLK_SIZES_FIRST)
               ? a
               : flk_stubs_size_other(sizes, a, b, c);
}
#endif
#endif

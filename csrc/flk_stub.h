// flk_stub.h - what a stub's number means: definer, way, function.           SPDX-License-Identifier: MIT
// Keeps:   the table behind flk_hook.h: state, and for each stub what its hook needs, in one cache line.
// Cost:    a load each; a looked-up call is told by its return address (flk_callers.h).
// Callers: hooks, in any thread.
#ifndef FLK_STUB_H
#define FLK_STUB_H

#include "flk_hook.h"

#ifdef FLK_HAS_ELF
typedef uintptr_t (*flk_function_of_3)(uintptr_t, uintptr_t, uintptr_t);
typedef uintptr_t (*flk_function_of_4)(uintptr_t, uintptr_t, uintptr_t,
                                       uintptr_t);
typedef uintptr_t (*flk_function_of_6)(uintptr_t, uintptr_t, uintptr_t,
                                       uintptr_t, uintptr_t, uintptr_t);

// What a stub stands for. All relaxed. Written before any word points at a
// hook of the definer, constant while one does.
typedef struct flk_stub_entry {
    atomic_uintptr_t original;
    _Atomic uint16_t type;    // of what it makes
    _Atomic uint8_t sizes;    // an flk_sizes
    atomic_bool is_asked;     // the definer's own code is asked for as well
} flk_stub_entry;
_Static_assert(sizeof(flk_stub_entry) == 2 * sizeof(void *), "an index away");

typedef struct flk_stub_table {
    _Alignas(64) atomic_int state;  // relaxed: an flk_hooks_state
    atomic_bool has_one_free;  // relaxed: no definer's free stands on another
    _Alignas(64) flk_stub_entry entries[FLK_SITE(0, 0, FLK_FN_COUNT)];
} flk_stub_table;
extern flk_stub_table flk_stub_now;
#define FLK_STUB_GET(site, field)                                       \
    atomic_load_explicit(&flk_stub_now.entries[site].field,             \
                         memory_order_relaxed)

static inline flk_function flk_stub_function(uint32_t site) {
    return (flk_function)(site >> 4);
}

static inline flk_via flk_stub_via(uint32_t site) {
    return (flk_via)(site >> 2 & 3);
}
_Static_assert(FLK_DEFINERS_MAX == 4 && FLK_VIA_COUNT <= 4, "FLK_SITE");

// A processor may see the patched word before the original, though it was
// written first: then the original comes in a moment.
uintptr_t flk_stub_wait(uint32_t site);

static inline uintptr_t flk_stub_original(uint32_t site) {
    uintptr_t original = FLK_STUB_GET(site, original);
    return FLK_LIKELY(original != 0) ? original : flk_stub_wait(site);
}

static inline flk_hooks_state flk_stub_state(void) {
    return (flk_hooks_state)atomic_load_explicit(&flk_stub_now.state,
                                                 memory_order_relaxed);
}

// Off or idle.
static inline bool flk_stub_is_off(void) {
    return flk_stub_state() <= FLK_HOOKS_IDLE;
}
_Static_assert(FLK_HOOKS_OFF < FLK_HOOKS_IDLE &&
                   FLK_HOOKS_IDLE < FLK_HOOKS_PAUSED,
               "in order of how much they see");

static inline uint16_t flk_stub_type(uint32_t site) {
    return FLK_STUB_GET(site, type);
}

// The type to record an allocation under; 0: it is not asked for.
uint16_t flk_stub_type_elsewhere(uint32_t site, const void *caller,
                                 const flk_marks *marks);
static inline uint16_t flk_stub_type_asked(uint32_t site, const void *caller,
                                           const flk_marks *marks) {
    return FLK_LIKELY(flk_stub_via(site) == FLK_VIA_ASKED)
               ? flk_stub_type(site)
               : flk_stub_type_elsewhere(site, caller, marks);
}
// How many bytes a call with these words asks for.
uint64_t flk_stub_size_other(flk_sizes sizes, uintptr_t a, uintptr_t b,
                             uintptr_t c);
static inline uint64_t flk_stub_size(uint32_t site, uintptr_t a, uintptr_t b,
                                     uintptr_t c) {
    flk_sizes sizes = (flk_sizes)FLK_STUB_GET(site, sizes);
    return FLK_LIKELY(sizes == FLK_SIZES_FIRST)
               ? a
               : flk_stub_size_other(sizes, a, b, c);
}

// A block is recorded under this type, or noted as lent.
void flk_stub_made(uintptr_t block, uint64_t size_bytes, uint16_t type,
                   uint32_t site);

// --- what the C library makes for a caller (flk_hooklend.c) --------------
// On the way: told when it returns, if it is what it returns.
void flk_lent_note(flk_marks *marks, uintptr_t block, uint64_t size_bytes);
// Gone again on the way. True: it was one of them.
bool flk_lent_forget(flk_marks *marks, uintptr_t block);
#endif
#endif

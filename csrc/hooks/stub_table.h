// stub_table.h - what each stub stands for, and whether hooks record.        SPDX-License-Identifier: MIT
// Keeps:   an entry of 16 bytes for each stub: the original function, the type of what it allocates, which
//          arguments hold the size, how the provider's own calls are recorded. The state of all hooks, and the
//          number of the present session.
// Cost:    one load each.
// Callers: readers: hooks, in any thread. Functions that change something: under FLK_RANK_ATTACH.
// Fails:   no memory for the types: flk_stub_table_init returns false, and nothing may be patched.
// Invariant: the entries of a provider are complete before any slot or export points at its stubs, and stay as they
//          are after detach. A child of a fork inherits the table unchanged: the forking thread holds FLK_RANK_ATTACH.
#ifndef FLK_STUB_TABLE_H
#define FLK_STUB_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include "hooks/functions.h"

// The kind that reports show for blocks recorded by hooks.
#define FLK_HOOK_KIND "hook"
enum { FLK_PROVIDERS_MAX = 4 };  // allocators in one process

// The route by which a call reaches a hook.
typedef enum flk_via {
    FLK_VIA_TRACED,    // a slot of a traced object
    FLK_VIA_UNTRACED,  // a slot of an untraced object
    FLK_VIA_EXPORT,    // an address looked up in an export table, by the
                       // loader or by dlsym: the return address decides
    FLK_VIA_RUNTIME,   // a slot of a C++ runtime, or of a C library that is
                       // recorded too: the stack decides
    FLK_VIA_COUNT,
} flk_via;

// What a provider's own code does with its slots; flags.
enum {
    // It allocates through a slot that is recorded. So a hook marks the thread
    // while the provider's function runs: one block, recorded once.
    FLK_PROVIDER_CALLS_INNER = 1,
    // It is traced. So the calls of untraced objects mark the thread as well.
    FLK_PROVIDER_IS_TRACED = 2,
    FLK_PROVIDER_IS_NAMED = 4,  // by a pattern
    FLK_PROVIDER_IS_C_LIBRARY = 8,
};

typedef enum flk_hooks_state {
    FLK_HOOKS_OFF,          // hooks only call the original functions
    FLK_HOOKS_IDLE,         // as OFF: paused, and no block is recorded
    FLK_HOOKS_NEARLY_IDLE,  // as PAUSED: the registry is being searched
    FLK_HOOKS_PAUSED,       // releases and moves only
    FLK_HOOKS_ON,
} flk_hooks_state;

// A stub's number: provider, via and function.
#define FLK_STUB(provider, via, function) \
    ((uint32_t)(provider) | (uint32_t)(via) << 2 | (uint32_t)(function) << 4)
_Static_assert(FLK_PROVIDERS_MAX == 4 && FLK_VIA_COUNT <= 4, "FLK_STUB");

// Hooks pass arguments and results as words, as both ABIs pass pointers and
// sizes. A function does not read words that it has no parameter for.
typedef uintptr_t (*flk_function_of_1)(uintptr_t);
typedef uintptr_t (*flk_function_of_3)(uintptr_t, uintptr_t, uintptr_t);
typedef uintptr_t (*flk_function_of_4)(uintptr_t, uintptr_t, uintptr_t,
                                       uintptr_t);
typedef uintptr_t (*flk_function_of_6)(uintptr_t, uintptr_t, uintptr_t,
                                       uintptr_t, uintptr_t, uintptr_t);

// --- changing the table --------------------------------------------------
// Interns the types of all functions. False: no memory.
bool flk_stub_table_init(void);
void flk_stub_table_set_state(flk_hooks_state state);
flk_hooks_state flk_stub_table_read_state(void);
// Paused becomes idle if no block is recorded whose release a hook could see.
// The next record of a block ends the idle state. O(regions).
void flk_stub_table_idle_if_empty(void);
// A new session: calls of hooks that began before are not recorded any more.
void flk_stub_table_next_session(void);
// 0 = the provider does not have this function.
void flk_stub_table_set_original(unsigned provider, flk_function function,
                                 uintptr_t address);
uintptr_t flk_stub_table_original_of(unsigned provider, flk_function function);
void flk_stub_table_set_flags(unsigned provider, unsigned flags);
unsigned flk_stub_table_flags_of(unsigned provider);
// Where the provider lies; nowhere: 0, 0. FLK_PROVIDERS_MAX: the interpreter,
// which provides its own allocators.
void flk_stub_table_set_range(unsigned provider, uintptr_t begin,
                              uintptr_t end);
uint16_t flk_stub_table_type_of(flk_function function);
// Of the text that a stream to memory leaves to its caller; 0 if the record's
// type is not one of such a stream.
uint16_t flk_stub_table_text_type(uint16_t stream);

// --- reading it in hooks -------------------------------------------------
// Whether the address lies in a provider that has one of these flags; 0: in
// any.
bool flk_stub_table_is_in_provider(uintptr_t address, unsigned flags);

// All fields are relaxed: they are written before any slot or export points
// at a stub of the provider, and constant while one does.
typedef struct flk_stub_entry {
    atomic_uintptr_t original;
    _Atomic uint16_t type;  // of what it allocates
    _Atomic uint8_t sizes;  // an flk_sizes
    _Atomic uint8_t flags;  // FLK_PROVIDER_...
    _Atomic uint8_t via;    // an flk_via; as in the number of the stub
} flk_stub_entry;
_Static_assert(sizeof(flk_stub_entry) == 2 * sizeof(void *), "an index away");

typedef struct flk_stub_table {
    _Alignas(64) atomic_int state;  // relaxed: an flk_hooks_state
    // A session begins with an attach while nothing is attached, and ends
    // with the detach of the last attachment. A hook reads the number at its
    // start and compares it inside the guard of its thread before it records
    // (hooks/report_hot.h), so that a call of one session is not recorded in
    // the next. Relaxed: flk_platform_fence_threads() orders it.
    atomic_uint session;
    // Relaxed: at most one provider has free; as well, and hooks are not paused.
    atomic_bool has_one_free, has_plain_free;
    _Atomic uint16_t text_type, wide_text_type;  // of streams to memory
    atomic_ullong epoch;                         // hooks/pause.h; never 0
    _Alignas(64) flk_stub_entry entries[FLK_STUB(0, 0, FLK_FN_COUNT)];
} flk_stub_table;
extern flk_stub_table flk_stub_table_now;
#define FLK_STUB_GET(stub, field)                                 \
    atomic_load_explicit(&flk_stub_table_now.entries[stub].field, \
                         memory_order_relaxed)

// The number of the stub that has this entry.
static inline uint32_t flk_stub_table_number(const flk_stub_entry *entry) {
    FLK_ASSERT(entry >= flk_stub_table_now.entries);
    return (uint32_t)(entry - flk_stub_table_now.entries);
}

static inline flk_function flk_stub_table_function(uint32_t stub) {
    FLK_ASSERT(stub < FLK_STUB(0, 0, FLK_FN_COUNT));
    return (flk_function)(stub >> 4);
}

static inline flk_via flk_stub_table_via(uint32_t stub) {
    FLK_ASSERT((stub >> 2 & 3) < FLK_VIA_COUNT);
    return (flk_via)(stub >> 2 & 3);
}

static inline flk_hooks_state flk_stub_table_state(void) {
    return (flk_hooks_state)atomic_load_explicit(&flk_stub_table_now.state,
                                                 memory_order_relaxed);
}

static inline uint32_t flk_stub_table_session(void) {
    return atomic_load_explicit(&flk_stub_table_now.session,
                                memory_order_relaxed);
}

// Off or idle.
static inline bool flk_stub_table_is_off(void) {
    return flk_stub_table_state() <= FLK_HOOKS_IDLE;
}
_Static_assert(FLK_HOOKS_OFF < FLK_HOOKS_IDLE &&
                   FLK_HOOKS_IDLE < FLK_HOOKS_NEARLY_IDLE &&
                   FLK_HOOKS_NEARLY_IDLE < FLK_HOOKS_PAUSED,
               "in order of how much they record");

// A processor may see a patched slot before the original, although the
// original was stored first; it becomes visible soon.
uintptr_t flk_stub_table_wait(uint32_t stub);

static inline uintptr_t flk_stub_table_original(uint32_t stub) {
    FLK_ASSERT(stub < FLK_STUB(0, 0, FLK_FN_COUNT));
    uintptr_t original = FLK_STUB_GET(stub, original);
    return FLK_LIKELY(original != 0) ? original : flk_stub_table_wait(stub);
}

static inline uint16_t flk_stub_table_type(uint32_t stub) {
    FLK_ASSERT(FLK_STUB_GET(stub, type) != 0);
    return FLK_STUB_GET(stub, type);
}

// How many bytes a call with these arguments requests.
uint64_t flk_stub_table_size_other(flk_sizes sizes, uintptr_t a, uintptr_t b,
                                   uintptr_t c);
static inline uint64_t flk_stub_table_size(uint32_t stub, uintptr_t a,
                                           uintptr_t b, uintptr_t c) {
    flk_sizes sizes = (flk_sizes)FLK_STUB_GET(stub, sizes);
    return FLK_LIKELY(sizes == FLK_SIZES_FIRST)
               ? a
               : flk_stub_table_size_other(sizes, a, b, c);
}
#endif
#endif

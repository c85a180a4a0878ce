// flk_stub.c - the table of the hooks. Contracts: flk_stub.h, flk_hook.h.    SPDX-License-Identifier: MIT
#include "flk_stub.h"

#ifdef FLK_HAS_ELF
#include "flk_account.h"
#include "flk_callers.h"
#include "flk_names.h"
#include "flk_record.h"

flk_stub_table flk_stub_now;

// --- for who patches ---------------------------------------------------
bool flk_hook_init(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool done = true;
    for (int i = 0; i < FLK_FN_COUNT; i++) {
        const flk_function_info *info = &flk_hook_info[i];
        flk_stub_now.types[i] = flk_names_intern(info->text, FLK_HOOK_KIND,
                                                 info->release);
        done &= flk_stub_now.types[i] != 0 &&
                flk_account_prepare_type(flk_stub_now.types[i]);
    }
    flk_thread_leave(thread);
    return done;
}

void flk_hook_set_state(flk_hooks_state state) {
    atomic_store(&flk_stub_now.state, state);
}

flk_hooks_state flk_hook_state(void) {
    return atomic_load(&flk_stub_now.state);
}

void flk_hook_set_original(unsigned definer, flk_function function,
                           uintptr_t address) {
    atomic_store(&flk_stub_now.originals[definer][function], address);
}

uintptr_t flk_hook_original(unsigned definer, flk_function function) {
    return atomic_load_explicit(&flk_stub_now.originals[definer][function],
                                memory_order_relaxed);
}

void flk_hook_ask_definer(unsigned definer, bool is_asked) {
    atomic_store(&flk_stub_now.asked[definer], is_asked);
}

uint16_t flk_hook_type(flk_function function) {
    return atomic_load_explicit(&flk_stub_now.types[function],
                                memory_order_relaxed);
}

// --- a site ------------------------------------------------------------
uintptr_t flk_stub_wait(uint32_t site) {
    enum { LOOKS_MAX = 100000000 };  // no processor takes a second
    uintptr_t original = 0;
    for (uint32_t i = 0; i < LOOKS_MAX && !original; i++)
        original = atomic_load_explicit(
            &flk_stub_now.originals[site & 3][flk_stub_function(site)],
            memory_order_acquire);
    if (!original)
        flk_fatal("a hook without an original", __FILE__, __LINE__);
    return original;
}

static bool is_caller_asked(const void *caller) {
    flk_caller found = flk_callers_find((uintptr_t)caller);
    if (FLK_UNLIKELY(found == FLK_CALLER_UNKNOWN))
        flk_record_count(FLK_HOOK_UNKNOWN_CALLERS);
    return found == FLK_CALLER_ASKED;
}

uint16_t flk_stub_type_elsewhere(uint32_t site, const void *caller,
                                 const flk_marks *marks) {
    if (marks->on_behalf || flk_stub_via(site) == FLK_VIA_QUIET)
        return marks->on_behalf;
    return is_caller_asked(caller) ? flk_stub_type(site) : 0;
}

uint64_t flk_stub_size_other(flk_sizes sizes, uintptr_t a, uintptr_t b,
                             uintptr_t c) {
    switch (sizes) {
    case FLK_SIZES_SECOND:
        return b;
    case FLK_SIZES_THIRD:
        return c;
    case FLK_SIZES_PRODUCT:
        return a * b;
    case FLK_SIZES_PRODUCT_AFTER:
        return b * c;
    default:
        break;
    }
    return 0;
}
#endif

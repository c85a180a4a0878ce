// flk_stub.c - the table of the hooks. Contracts: flk_stub.h, flk_hook.h.    SPDX-License-Identifier: MIT
#include "flk_stub.h"

#ifdef FLK_HAS_ELF
#include "flk_account.h"
#include "flk_callers.h"
#include "flk_names.h"
#include "flk_newcomers.h"
#include "flk_record.h"

flk_stub_table flk_stub_now;

enum { SITES_OF_FUNCTION = FLK_SITE(0, 0, 1) };
#define ENTRY(site, field) (&flk_stub_now.entries[site].field)

// --- for who patches ---------------------------------------------------
static void set_type(flk_function function, uint16_t type) {
    uint32_t first = FLK_SITE(0, 0, function);
    for (uint32_t i = 0; i < SITES_OF_FUNCTION; i++) {
        atomic_store(ENTRY(first + i, type), type);
        atomic_store(ENTRY(first + i, sizes),
                     (uint8_t)flk_hook_info[function].sizes);
    }
}

bool flk_hook_init(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool done = true;
    for (int i = 0; i < FLK_FN_COUNT; i++) {
        const flk_function_info *info = &flk_hook_info[i];
        uint16_t type = flk_names_intern(info->text, FLK_HOOK_KIND,
                                         info->release);
        done &= type != 0 && flk_account_prepare_type(type);
        set_type((flk_function)i, type);
    }
    flk_thread_leave(thread);
    return done;
}

void flk_hook_set_state(flk_hooks_state state) {
    atomic_store(&flk_stub_now.state, state);
    flk_tracker_wakes(NULL);
}

static bool change_state(int from, int to) {
    return atomic_compare_exchange_strong(&flk_stub_now.state, &from, to);
}

static void wake(void) {
    if (!change_state(FLK_HOOKS_NEARLY_IDLE, FLK_HOOKS_PAUSED))
        change_state(FLK_HOOKS_IDLE, FLK_HOOKS_PAUSED);
}

// A hook that began before the pause may still record a block, in a shard that
// was looked at: then it wakes, before anybody can free its block.
void flk_hook_idle_if_empty(void) {
    flk_tracker_wakes(wake);
    atomic_store(&flk_stub_now.state, FLK_HOOKS_NEARLY_IDLE);
    if (!flk_registry_holds(FLK_LAYER_HEAP) &&
        !flk_registry_holds(FLK_LAYER_MAPPING) &&
        change_state(FLK_HOOKS_NEARLY_IDLE, FLK_HOOKS_IDLE))
        return;
    flk_hook_set_state(FLK_HOOKS_PAUSED);
}

flk_hooks_state flk_hook_state(void) {
    return atomic_load(&flk_stub_now.state);
}

void flk_hook_set_original(unsigned definer, flk_function function,
                           uintptr_t address) {
    for (unsigned via = 0; via < FLK_VIA_COUNT; via++)
        atomic_store(ENTRY(FLK_SITE(definer, via, function), original),
                     address);
    int frees = 0;
    for (unsigned d = 0; d < FLK_DEFINERS_MAX; d++)
        frees += flk_hook_original(d, FLK_FN_FREE) != 0;
    atomic_store(&flk_stub_now.has_one_free, frees <= 1);
}

uintptr_t flk_hook_original(unsigned definer, flk_function function) {
    return FLK_STUB_GET(FLK_SITE(definer, 0, function), original);
}

void flk_hook_ask_definer(unsigned definer, bool is_asked) {
    for (uint32_t i = 0; i < FLK_SITE(0, 0, FLK_FN_COUNT); i++)
        if ((i & 3) == definer)
            atomic_store(ENTRY(i, is_asked), is_asked);
}

uint16_t flk_hook_type(flk_function function) {
    return FLK_STUB_GET(FLK_SITE(0, 0, function), type);
}

// --- a site ------------------------------------------------------------
uintptr_t flk_stub_wait(uint32_t site) {
    enum { LOOKS_MAX = 100000000 };  // no processor takes a second
    uintptr_t original = 0;
    for (uint32_t i = 0; i < LOOKS_MAX && !original; i++)
        original = atomic_load_explicit(ENTRY(site, original),
                                        memory_order_acquire);
    if (!original)
        flk_fatal("a hook without an original", __FILE__, __LINE__);
    return original;
}

static bool is_caller_asked(const void *caller) {
    flk_newcomers_notice();
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

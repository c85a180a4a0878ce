// stub_table.c - entries, state, session. Contract: hooks/stub_table.h.      SPDX-License-Identifier: MIT
#include "hooks/stub_table.h"

#ifdef FLK_HAS_ELF
#include "registry/account.h"
#include "registry/names.h"
#include "tracker/tracker.h"

flk_stub_table flk_stub_table_now;

enum { STUBS_OF_FUNCTION = FLK_STUB(0, 0, 1) };
#define ENTRY(stub, field) (&flk_stub_table_now.entries[stub].field)

// Where the entries of a provider's function lie.
static unsigned place_of(unsigned provider, flk_function function) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX && function < FLK_FN_COUNT);
    return flk_functions_is_single(function) ? 0 : provider;
}

// --- types and originals -------------------------------------------------
static uint16_t intern(const char *text, const char *release, bool *done) {
    uint16_t type = flk_names_intern(text, FLK_HOOK_KIND, release);
    *done &= type != 0 && flk_account_prepare_type(type);
    return type;
}

static void set_type(flk_function function, uint16_t type) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    uint32_t first = FLK_STUB(0, 0, function);
    for (uint32_t i = 0; i < STUBS_OF_FUNCTION; i++) {
        atomic_store(ENTRY(first + i, type), type);
        atomic_store(ENTRY(first + i, sizes),
                     (uint8_t)flk_functions_info[function].sizes);
        atomic_store(ENTRY(first + i, via),
                     (uint8_t)flk_stub_table_via(first + i));
    }
}

bool flk_stub_table_init(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool done = true;
    for (int i = 0; i < FLK_FN_COUNT; i++) {
        const flk_function_info *info = &flk_functions_info[i];
        set_type((flk_function)i, intern(info->text, info->release, &done));
    }
    atomic_store(&flk_stub_table_now.text_type,
                 intern("open_memstream", "free", &done));
    atomic_store(&flk_stub_table_now.wide_text_type,
                 intern("open_wmemstream", "free", &done));
    flk_thread_leave(thread);
    return done;
}

// A record that is made in the idle state makes it a pause without this: then
// frees take the plain way, which is slower and right.
static void settle_free(void) {
    int frees = 0;
    for (unsigned d = 0; d < FLK_PROVIDERS_MAX; d++)
        frees += flk_stub_table_original_of(d, FLK_FN_FREE) != 0;
    atomic_store(&flk_stub_table_now.has_one_free, frees <= 1);
    atomic_store(&flk_stub_table_now.has_plain_free,
                 frees <= 1 && flk_stub_table_read_state() != FLK_HOOKS_PAUSED);
}

void flk_stub_table_set_original(unsigned provider, flk_function function,
                                 uintptr_t address) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX && function < FLK_FN_COUNT);
    for (unsigned via = 0; via < FLK_VIA_COUNT; via++)
        atomic_store(
            ENTRY(FLK_STUB(place_of(provider, function), via, function),
                  original),
            address);
    settle_free();
}

uintptr_t flk_stub_table_original_of(unsigned provider, flk_function function) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX && function < FLK_FN_COUNT);
    return FLK_STUB_GET(FLK_STUB(place_of(provider, function), 0, function),
                        original);
}

FLK_NOINLINE uintptr_t flk_stub_table_wait(uint32_t stub) {
    enum { LOOKS_MAX = 100000000 };  // some 0.1 s; stores take nanoseconds
    uintptr_t original = 0;
    for (uint32_t i = 0; i < LOOKS_MAX && !original; i++)
        original =
            atomic_load_explicit(ENTRY(stub, original), memory_order_acquire);
    if (!original)
        flk_platform_fatal("a hook without an original", __FILE__, __LINE__);
    return original;
}

static bool has_entry(unsigned provider, unsigned flags, flk_function function,
                      uint32_t stub) {
    if (flk_functions_is_of_python(function))
        return false;  // their flags stay 0
    return flk_functions_is_single(function) ? flags & FLK_PROVIDER_IS_C_LIBRARY
                                             : (stub & 3) == provider;
}

void flk_stub_table_set_flags(unsigned provider, unsigned flags) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX && flags < 16);
    for (uint32_t i = 0; i < FLK_STUB(0, 0, FLK_FN_COUNT); i++)
        if (has_entry(provider, flags, flk_stub_table_function(i), i))
            atomic_store(ENTRY(i, flags), (uint8_t)flags);
}

unsigned flk_stub_table_flags_of(unsigned provider) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX);
    return FLK_STUB_GET(FLK_STUB(provider, 0, 0), flags);
}

// Relaxed, and at worst stale: then a call of another object is taken for one
// of a provider that was unloaded.
static struct {
    atomic_uintptr_t begin, end;
} ranges[FLK_PROVIDERS_MAX + 1];

void flk_stub_table_set_range(unsigned provider, uintptr_t begin,
                              uintptr_t end) {
    FLK_ASSERT(provider <= FLK_PROVIDERS_MAX && begin <= end);
    atomic_store(&ranges[provider].begin, begin);
    atomic_store(&ranges[provider].end, end);
}

bool flk_stub_table_is_in_provider(uintptr_t address, unsigned flags) {
    bool is_in = false;
    for (unsigned i = 0; i <= FLK_PROVIDERS_MAX; i++)
        is_in |=
            address >=
                atomic_load_explicit(&ranges[i].begin, memory_order_relaxed) &&
            address <
                atomic_load_explicit(&ranges[i].end, memory_order_relaxed) &&
            (flags == 0 ||
             (i < FLK_PROVIDERS_MAX && flk_stub_table_flags_of(i) & flags));
    return is_in;
}

uint16_t flk_stub_table_type_of(flk_function function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    return FLK_STUB_GET(FLK_STUB(0, 0, function), type);
}

uint16_t flk_stub_table_text_type(uint16_t stream) {
    FLK_ASSERT(stream != 0);
    if (stream == flk_stub_table_type_of(FLK_FN_OPEN_MEMSTREAM))
        return atomic_load(&flk_stub_table_now.text_type);
    if (stream == flk_stub_table_type_of(FLK_FN_OPEN_WMEMSTREAM))
        return atomic_load(&flk_stub_table_now.wide_text_type);
    return 0;
}

uint64_t flk_stub_table_size_other(flk_sizes sizes, uintptr_t a, uintptr_t b,
                                   uintptr_t c) {
    FLK_ASSERT(sizes != FLK_SIZES_FIRST);
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

// --- state and session ---------------------------------------------------

flk_hooks_state flk_stub_table_read_state(void) {
    return atomic_load(&flk_stub_table_now.state);
}

void flk_stub_table_next_session(void) {
    FLK_ASSERT(flk_stub_table_read_state() != FLK_HOOKS_ON);
    atomic_fetch_add(&flk_stub_table_now.session, 1);
}

static bool change_state(int from, int to) {
    return atomic_compare_exchange_strong(&flk_stub_table_now.state, &from, to);
}

// Runs in the thread that has just recorded a block, before any code can
// release it.
static void wake(void) {
    atomic_fetch_add(&flk_stub_table_now.epoch, 1);
    if (!change_state(FLK_HOOKS_NEARLY_IDLE, FLK_HOOKS_PAUSED))
        change_state(FLK_HOOKS_IDLE, FLK_HOOKS_PAUSED);
}

void flk_stub_table_set_state(flk_hooks_state state) {
    FLK_ASSERT(state <= FLK_HOOKS_ON);
    bool is_paused = state == FLK_HOOKS_PAUSED;
    atomic_fetch_add(&flk_stub_table_now.epoch, 1);
    if (is_paused)
        flk_tracker_wakes(wake);
    atomic_store(&flk_stub_table_now.state, state);
    if (!is_paused)
        flk_tracker_wakes(NULL);
    settle_free();
}

// The search locks shards. A signal handler of this thread may allocate
// meanwhile: inside the guard its event is counted and does not wait for the
// shard.
static bool is_registry_empty(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool is_empty = !flk_registry_holds(FLK_LAYER_HEAP) &&
                    !flk_registry_holds(FLK_LAYER_MAPPING);
    flk_thread_leave(thread);
    return is_empty;
}

// A hook that began before the pause may still record a block in a shard that
// was searched already. It then calls wake() before any code can release the
// block.
void flk_stub_table_idle_if_empty(void) {
    FLK_ASSERT(flk_stub_table_read_state() == FLK_HOOKS_PAUSED);
    atomic_store(&flk_stub_table_now.state, FLK_HOOKS_NEARLY_IDLE);
    if (is_registry_empty() &&
        change_state(FLK_HOOKS_NEARLY_IDLE, FLK_HOOKS_IDLE))
        return;
    flk_stub_table_set_state(FLK_HOOKS_PAUSED);
}
#endif

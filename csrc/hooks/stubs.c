// stubs.c - the table, and one stub for each provider, way and function. Contract: hooks/stubs.h.  SPDX-License-Identifier: MIT
#include "hooks/stubs.h"

#include <stdarg.h>
#include <string.h>

#ifdef FLK_HAS_ELF
#include "hooks/bodies.h"
#include "hooks/mappings.h"
#include "registry/account.h"
#include "registry/names.h"
#include "tracker/tracker.h"

flk_stubs_table flk_stubs_now;

enum { SITES_OF_FUNCTION = FLK_SITE(0, 0, 1) };
#define ENTRY(site, field) (&flk_stubs_now.entries[site].field)

// --- for who patches ---------------------------------------------------
static void set_type(flk_function function, uint16_t type) {
    uint32_t first = FLK_SITE(0, 0, function);
    for (uint32_t i = 0; i < SITES_OF_FUNCTION; i++) {
        atomic_store(ENTRY(first + i, type), type);
        atomic_store(ENTRY(first + i, sizes),
                     (uint8_t)flk_functions_info[function].sizes);
    }
}

bool flk_stubs_init(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool done = true;
    for (int i = 0; i < FLK_FN_COUNT; i++) {
        const flk_function_info *info = &flk_functions_info[i];
        uint16_t type =
            flk_names_intern(info->text, FLK_HOOK_KIND, info->release);
        done &= type != 0 && flk_account_prepare_type(type);
        set_type((flk_function)i, type);
    }
    flk_thread_leave(thread);
    return done;
}

void flk_stubs_set_state(flk_hooks_state state) {
    atomic_store(&flk_stubs_now.state, state);
    flk_tracker_wakes(NULL);
}

static bool change_state(int from, int to) {
    return atomic_compare_exchange_strong(&flk_stubs_now.state, &from, to);
}

static void wake(void) {
    if (!change_state(FLK_HOOKS_NEARLY_IDLE, FLK_HOOKS_PAUSED))
        change_state(FLK_HOOKS_IDLE, FLK_HOOKS_PAUSED);
}

// A hook that began before the pause may still record a block, in a shard that
// was looked at: then it wakes, before anybody can free its block.
void flk_stubs_idle_if_empty(void) {
    flk_tracker_wakes(wake);
    atomic_store(&flk_stubs_now.state, FLK_HOOKS_NEARLY_IDLE);
    if (!flk_registry_holds(FLK_LAYER_HEAP) &&
        !flk_registry_holds(FLK_LAYER_MAPPING) &&
        change_state(FLK_HOOKS_NEARLY_IDLE, FLK_HOOKS_IDLE))
        return;
    flk_stubs_set_state(FLK_HOOKS_PAUSED);
}

flk_hooks_state flk_stubs_read_state(void) {
    return atomic_load(&flk_stubs_now.state);
}

void flk_stubs_set_original(unsigned provider, flk_function function,
                            uintptr_t address) {
    for (unsigned via = 0; via < FLK_VIA_COUNT; via++)
        atomic_store(ENTRY(FLK_SITE(provider, via, function), original),
                     address);
    int frees = 0;
    for (unsigned d = 0; d < FLK_PROVIDERS_MAX; d++)
        frees += flk_stubs_original_of(d, FLK_FN_FREE) != 0;
    atomic_store(&flk_stubs_now.has_one_free, frees <= 1);
}

uintptr_t flk_stubs_original_of(unsigned provider, flk_function function) {
    return FLK_STUB_GET(FLK_SITE(provider, 0, function), original);
}

void flk_stubs_trace_provider(unsigned provider, bool is_traced) {
    for (uint32_t i = 0; i < FLK_SITE(0, 0, FLK_FN_COUNT); i++)
        if ((i & 3) == provider)
            atomic_store(ENTRY(i, is_traced), is_traced);
}

uint16_t flk_stubs_type_of(flk_function function) {
    return FLK_STUB_GET(FLK_SITE(0, 0, function), type);
}

// --- a site ------------------------------------------------------------
uint64_t flk_stubs_size_other(flk_sizes sizes, uintptr_t a, uintptr_t b,
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

// --- one function for each provider, way and hooked function ------------
// The contract stands in hooks/bodies.h. A stub adds to the words it got which stub it is and who called, and goes to
// the body; where nothing is to be done it goes to the original at once, whose place in the table it knows. About 60
// bytes each.
#define CALLER __builtin_return_address(0)
#define SITE(d, v, id) FLK_SITE(d, FLK_VIA_##v, FLK_FN_##id)
#define NAME(d, v, id) stub_##d##_##v##_##id

// Where there is nothing to do: NULL if the original is not there yet.
#define ORIGINAL(d, v, id) \
    (flk_function_of_3) FLK_STUB_GET(SITE(d, v, id), original)

// A slot of an object that is not asked for: on behalf of one at most.
static inline bool allocates_only(flk_via via) {
    return flk_stubs_state() != FLK_HOOKS_ON ||
           (via == FLK_VIA_UNTRACED && !flk_platform_thread_marks()->on_behalf);
}

#define STUB_OF_3(d, v, id, body, has_nothing_to_do)                         \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        if (FLK_LIKELY(has_nothing_to_do) && FLK_LIKELY(original != NULL))   \
            return original(a, b, c);                                        \
        return body(a, b, c, SITE(d, v, id), CALLER);                        \
    }
#define STUB_ALLOCATE(d, v, id) \
    STUB_OF_3(d, v, id, flk_bodies_allocate, allocates_only(FLK_VIA_##v))
#define STUB_PLACE(d, v, id) \
    STUB_OF_3(d, v, id, flk_bodies_place, allocates_only(FLK_VIA_##v))
#define STUB_RESIZE(d, v, id) \
    STUB_OF_3(d, v, id, flk_bodies_resize, flk_stubs_is_off())
#define STUB_RELEASE(d, v, id)                                               \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        if (FLK_LIKELY(!a || flk_stubs_is_off()) &&                          \
            FLK_LIKELY(original != NULL))                                    \
            return original(a, b, c);                                        \
        return FLK_FN_##id == FLK_FN_FREE                                    \
                   ? flk_bodies_free(a, b, c, SITE(d, v, id))                \
                   : flk_bodies_release(a, b, c, SITE(d, v, id));            \
    }
#define STUB_RETURN(d, v, id)                                              \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c, \
                                    uintptr_t w) {                         \
        return flk_bodies_return(a, b, c, w, SITE(d, v, id), CALLER);      \
    }
// A va_list is passed as the address of one on both machines.
#define STUB_PRINT(d, v, id)                                                   \
    static int NAME(d, v, id)(char **out, const char *format, ...) {           \
        va_list list;                                                          \
        va_start(list, format);                                                \
        int length = (int)flk_bodies_return((uintptr_t)out, (uintptr_t)format, \
                                            (uintptr_t)&list, 0,               \
                                            SITE(d, v, V##id), CALLER);        \
        va_end(list);                                                          \
        return length;                                                         \
    }
#define STUB_PRINT_CHK(d, v, id)                                               \
    static int NAME(d, v, id)(char **out, int flag, const char *format, ...) { \
        va_list list;                                                          \
        va_start(list, format);                                                \
        int length = (int)flk_bodies_return(                                   \
            (uintptr_t)out, (uintptr_t)flag, (uintptr_t)format,                \
            (uintptr_t)&list, SITE(d, v, V##id), CALLER);                      \
        va_end(list);                                                          \
        return length;                                                         \
    }
#define STUB_OF_6(d, v, id)                                                  \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c,   \
                                    uintptr_t w, uintptr_t x, uintptr_t y) { \
        uintptr_t words[6] = {a, b, c, w, x, y};                             \
        return flk_mappings_call(words, SITE(d, v, id), CALLER);             \
    }
#define STUB_MAP STUB_OF_6
#define STUB_UNMAP STUB_OF_6
#define STUB_REMAP STUB_OF_6

#define STUB(d, v, id, symbol, text, shape, sizes, release) \
    STUB_##shape(d, v, id)
#define STUBS(d)                  \
    FLK_FAMILY(STUB, d, TRACED)   \
    FLK_FAMILY(STUB, d, UNTRACED) \
    FLK_FAMILY(STUB, d, EXPORT)
STUBS(0)
STUBS(1)
STUBS(2)
STUBS(3)

#define STUB_ENTRY(d, v, id, symbol, text, shape, sizes, release) \
    (uintptr_t)NAME(d, v, id),
#define ENTRIES(d)                             \
    {                                          \
        {FLK_FAMILY(STUB_ENTRY, d, TRACED)},   \
        {FLK_FAMILY(STUB_ENTRY, d, UNTRACED)}, \
        {FLK_FAMILY(STUB_ENTRY, d, EXPORT)},   \
    }
static const uintptr_t stubs[FLK_PROVIDERS_MAX][FLK_VIA_COUNT][FLK_FN_COUNT] = {
    ENTRIES(0), ENTRIES(1), ENTRIES(2), ENTRIES(3)};

// --- stubs by place ----------------------------------------------------
uintptr_t flk_stubs_at(unsigned provider, flk_function function, flk_via via) {
    return stubs[provider][via][function];
}

enum { STUB_COUNT = FLK_PROVIDERS_MAX * FLK_VIA_COUNT * FLK_FN_COUNT };

// Where stubs lie; all under FLK_RANK_ATTACH.
static struct {
    uintptr_t first, last;
    bool is_ready;
} span;

static void find_span(void) {
    const uintptr_t *all = &stubs[0][0][0];
    span.first = span.last = all[0];
    for (int i = 1; i < STUB_COUNT; i++) {
        if (all[i] < span.first)
            span.first = all[i];
        if (all[i] > span.last)
            span.last = all[i];
    }
    span.is_ready = true;
}

bool flk_stubs_find(uintptr_t address, unsigned *provider,
                    flk_function *function, flk_via *via) {
    if (!span.is_ready)
        find_span();
    if (address < span.first || address > span.last)
        return false;
    const uintptr_t *all = &stubs[0][0][0];
    for (unsigned i = 0; i < STUB_COUNT; i++)
        if (all[i] == address) {
            *provider = i / (FLK_VIA_COUNT * FLK_FN_COUNT);
            *via = (flk_via)(i / FLK_FN_COUNT % FLK_VIA_COUNT);
            *function = (flk_function)(i % FLK_FN_COUNT);
            return true;
        }
    return false;
}

#endif

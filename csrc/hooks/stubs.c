// stubs.c - one function for each provider, via and hooked function. Contract: hooks/stubs.h.  SPDX-License-Identifier: MIT
#include "hooks/stubs.h"

#include <stdarg.h>

#ifdef FLK_HAS_ELF
#include "hooks/bodies.h"
#include "hooks/mappings.h"

// --- the stubs -----------------------------------------------------------
// A stub adds its own number and the return address to the arguments it got
// and goes to the body of its shape. Where nothing is to be recorded it jumps
// to the original at once, whose place in the table is a constant. About 60
// bytes each.
#define CALLER __builtin_return_address(0)
#define NUMBER(d, v, id) FLK_STUB(d, FLK_VIA_##v, FLK_FN_##id)
#define NAME(d, v, id) stub_##d##_##v##_##id

// NULL while the original is not visible yet (flk_stub_table_wait).
#define ORIGINAL(d, v, id) \
    (flk_function_of_3) FLK_STUB_GET(NUMBER(d, v, id), original)

// Allocations of an untraced object are recorded only while the C library
// builds a result for a traced one. Inside a traced provider they are marked.
static inline bool is_not_recorded(flk_via via, uint32_t stub) {
    return flk_stub_table_state() != FLK_HOOKS_ON ||
           (via == FLK_VIA_UNTRACED &&
            !(FLK_STUB_GET(stub, flags) & FLK_PROVIDER_IS_TRACED) &&
            !flk_platform_thread_marks()->returned.type);
}

#define STUB_OF_3(d, v, id, body, has_nothing_to_do)                         \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        if (FLK_LIKELY(has_nothing_to_do) && FLK_LIKELY(original != NULL))   \
            return original(a, b, c);                                        \
        return body(a, b, c, NUMBER(d, v, id), CALLER);                      \
    }
#define STUB_ALLOCATE(d, v, id)              \
    STUB_OF_3(d, v, id, flk_bodies_allocate, \
              is_not_recorded(FLK_VIA_##v, NUMBER(d, v, id)))
#define STUB_PLACE(d, v, id)              \
    STUB_OF_3(d, v, id, flk_bodies_place, \
              is_not_recorded(FLK_VIA_##v, NUMBER(d, v, id)))
#define STUB_RESIZE(d, v, id) \
    STUB_OF_3(d, v, id, flk_bodies_resize, flk_stub_table_is_off())
#define STUB_RELEASE(d, v, id)                                               \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        if (FLK_LIKELY(!a || flk_stub_table_is_off()) &&                     \
            FLK_LIKELY(original != NULL))                                    \
            return original(a, b, c);                                        \
        return FLK_FN_##id == FLK_FN_FREE                                    \
                   ? flk_bodies_free(a, b, c, NUMBER(d, v, id))              \
                   : flk_bodies_release(a, b, c, NUMBER(d, v, id));          \
    }
#define STUB_RETURN(d, v, id)                                              \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c, \
                                    uintptr_t w) {                         \
        return flk_bodies_return(a, b, c, w, NUMBER(d, v, id), CALLER);    \
    }
// A va_list is passed as the address of one on both machines.
#define STUB_PRINT(d, v, id)                                                   \
    static int NAME(d, v, id)(char **out, const char *format, ...) {           \
        va_list list;                                                          \
        va_start(list, format);                                                \
        int length = (int)flk_bodies_return((uintptr_t)out, (uintptr_t)format, \
                                            (uintptr_t)&list, 0,               \
                                            NUMBER(d, v, V##id), CALLER);      \
        va_end(list);                                                          \
        return length;                                                         \
    }
#define STUB_PRINT_CHK(d, v, id)                                               \
    static int NAME(d, v, id)(char **out, int flag, const char *format, ...) { \
        va_list list;                                                          \
        va_start(list, format);                                                \
        int length = (int)flk_bodies_return(                                   \
            (uintptr_t)out, (uintptr_t)flag, (uintptr_t)format,                \
            (uintptr_t)&list, NUMBER(d, v, V##id), CALLER);                    \
        va_end(list);                                                          \
        return length;                                                         \
    }
#define STUB_OF_6(d, v, id)                                                  \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c,   \
                                    uintptr_t w, uintptr_t x, uintptr_t y) { \
        uintptr_t words[6] = {a, b, c, w, x, y};                             \
        return flk_mappings_call(words, NUMBER(d, v, id), CALLER);           \
    }
#define STUB_MAP STUB_OF_6
#define STUB_UNMAP STUB_OF_6
#define STUB_REMAP STUB_OF_6

#define STUB(d, v, id, symbol, text, shape, sizes, release) \
    STUB_##shape(d, v, id)
#define STUBS(d)                  \
    FLK_FAMILY(STUB, d, TRACED)   \
    FLK_FAMILY(STUB, d, UNTRACED) \
    FLK_FAMILY(STUB, d, EXPORT)   \
    FLK_FAMILY(STUB, d, RUNTIME)
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
        {FLK_FAMILY(STUB_ENTRY, d, RUNTIME)},  \
    }
static const uintptr_t stubs[FLK_PROVIDERS_MAX][FLK_VIA_COUNT][FLK_FN_COUNT] = {
    ENTRIES(0), ENTRIES(1), ENTRIES(2), ENTRIES(3)};

// --- stubs by address ----------------------------------------------------
uintptr_t flk_stubs_at(unsigned provider, flk_function function, flk_via via) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX && function < FLK_FN_COUNT &&
               via < FLK_VIA_COUNT);
    return stubs[provider][via][function];
}

enum { STUB_COUNT = FLK_PROVIDERS_MAX * FLK_VIA_COUNT * FLK_FN_COUNT };

// The stubs by rising address. Under FLK_RANK_ATTACH, so consistent in the child
// of a fork.
static struct {
    uint16_t by_address[STUB_COUNT];
    bool is_ready;
} sorted;
_Static_assert(STUB_COUNT <= UINT16_MAX, "an index");

static uintptr_t stub_at(unsigned i) {
    FLK_ASSERT(i < STUB_COUNT);
    return (&stubs[0][0][0])[i];
}

// They mostly lie in the order of the table.
static void sort(void) {
    for (unsigned i = 0; i < STUB_COUNT; i++) {
        unsigned k = i;
        for (; k > 0 && stub_at(sorted.by_address[k - 1]) > stub_at(i); k--)
            sorted.by_address[k] = sorted.by_address[k - 1];
        sorted.by_address[k] = (uint16_t)i;
    }
    sorted.is_ready = true;
}

void flk_stubs_span(uintptr_t *first, uintptr_t *last) {
    FLK_ASSERT(first != NULL && last != NULL);
    if (!sorted.is_ready)
        sort();
    *first = stub_at(sorted.by_address[0]);
    *last = stub_at(sorted.by_address[STUB_COUNT - 1]);
}

bool flk_stubs_find(uintptr_t address, unsigned *provider,
                    flk_function *function, flk_via *via) {
    uintptr_t first, last;
    flk_stubs_span(&first, &last);
    if (address < first || address > last)
        return false;
    unsigned low = 0, high = STUB_COUNT;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (stub_at(sorted.by_address[middle]) <= address)
            low = middle;
        else
            high = middle;
    }
    unsigned i = sorted.by_address[low];
    if (stub_at(i) != address)
        return false;
    *provider = i / (FLK_VIA_COUNT * FLK_FN_COUNT);
    *via = (flk_via)(i / FLK_FN_COUNT % FLK_VIA_COUNT);
    *function = (flk_function)(i % FLK_FN_COUNT);
    return true;
}

#endif

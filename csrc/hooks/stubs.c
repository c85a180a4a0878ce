// stubs.c - one function for each provider, via and hooked function. Contract: hooks/stubs.h.  SPDX-License-Identifier: MIT
#include "hooks/stubs.h"

#include <stdarg.h>

#ifdef FLK_HAS_ELF
#include "hooks/bodies.h"
#include "hooks/interpreter.h"
#include "hooks/mappings.h"
#include "hooks/results.h"

// --- the stubs -----------------------------------------------------------
// A stub adds its own number and the return address to the arguments it got
// and goes to the body of its shape. Where nothing is to be recorded it jumps
// to the original at once, whose place in the table is a constant. About 60
// bytes each.
#define CALLER __builtin_return_address(0)
#define HERE(v) (FLK_VIA_##v == FLK_VIA_RUNTIME ? FLK_STACK_HERE : 0)
#define NUMBER(d, v, id) FLK_STUB(d, FLK_VIA_##v, FLK_FN_##id)
#define NAME(d, v, id) stub_##d##_##v##_##id

// NULL while the original is not visible yet (flk_stub_table_wait).
#define ORIGINAL(d, v, id) \
    (flk_function_of_3) FLK_STUB_GET(NUMBER(d, v, id), original)

// Allocations of an untraced object are recorded only while the C library
// builds a result for a traced one. Inside a traced provider they are marked.
static inline bool is_not_recorded(flk_via via, uint32_t stub, uintptr_t here) {
    return flk_stub_table_state() != FLK_HOOKS_ON ||
           (via == FLK_VIA_UNTRACED &&
            !(FLK_STUB_GET(stub, flags) & FLK_PROVIDER_IS_TRACED) &&
            !flk_platform_thread_marks()->returned.type) ||
           (via == FLK_VIA_RUNTIME && flk_bodies_is_allocating(here));
}

#define STUB_WITH_3(d, v, id, body, has_nothing_to_do)                       \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        if (FLK_LIKELY(has_nothing_to_do) && FLK_LIKELY(original != NULL))   \
            return original(a, b, c);                                        \
        return body(a, b, c, NUMBER(d, v, id), CALLER);                      \
    }
// Most calls are malloc by a slot of a traced object, and have a body of their
// own.
static inline bool is_plain(flk_via via, uint32_t stub) {
    const flk_marks *marks = flk_platform_thread_marks();
    return via == FLK_VIA_TRACED &&
           flk_stub_table_function(stub) == FLK_FN_MALLOC &&
           FLK_LIKELY(!marks->allocating_frame && !marks->returned.type) &&
           FLK_LIKELY(!(FLK_STUB_GET(stub, flags) & FLK_PROVIDER_CALLS_INNER));
}

// The C library allocates for a function that it was asked for.
static inline bool is_noted(flk_via via, uint32_t stub) {
    return via == FLK_VIA_UNTRACED &&
           !(FLK_STUB_GET(stub, flags) &
             (FLK_PROVIDER_IS_TRACED | FLK_PROVIDER_CALLS_INNER)) &&
           !flk_platform_thread_marks()->allocating_frame;
}

#define STUB_ALLOCATE(d, v, id)                                              \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        uint32_t stub = NUMBER(d, v, id);                                    \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        uint32_t session =                                                   \
            FLK_VIA_##v == FLK_VIA_TRACED ? flk_stub_table_session() : 0;    \
        if (FLK_UNLIKELY(original == NULL))                                  \
            return flk_bodies_allocate(a, b, c, stub, CALLER);               \
        if (FLK_LIKELY(is_not_recorded(FLK_VIA_##v, stub, HERE(v))))         \
            return original(a, b, c);                                        \
        if (is_plain(FLK_VIA_##v, stub))                                     \
            return flk_bodies_malloc(a, &flk_stub_table_now.entries[stub],   \
                                     (uintptr_t)original, session);          \
        return is_noted(FLK_VIA_##v, stub)                                   \
                   ? flk_bodies_note(a, b, c, stub, CALLER)                  \
                   : flk_bodies_allocate(a, b, c, stub, CALLER);             \
    }
#define STUB_PLACE(d, v, id)                \
    STUB_WITH_3(d, v, id, flk_bodies_place, \
                is_not_recorded(FLK_VIA_##v, NUMBER(d, v, id), HERE(v)))
#define STUB_RESIZE(d, v, id) \
    STUB_WITH_3(d, v, id, flk_bodies_resize, flk_stub_table_is_off())
#define STUB_RELEASE(d, v, id)                                               \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        if (FLK_UNLIKELY(original == NULL))                                  \
            return flk_bodies_release(a, b, c, NUMBER(d, v, id));            \
        if (FLK_LIKELY(!a || flk_stub_table_is_off()))                       \
            return original(a, b, c);                                        \
        return FLK_FN_##id == FLK_FN_FREE                                    \
                   ? flk_bodies_free(                                        \
                         a, &flk_stub_table_now.entries[NUMBER(d, v, id)],   \
                         (uintptr_t)original)                                \
                   : flk_bodies_release(a, b, c, NUMBER(d, v, id));          \
    }
#define STUB_WITH_5(d, v, id, body)                                        \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c, \
                                    uintptr_t w, uintptr_t x) {            \
        return body(a, b, c, w, x, NUMBER(d, v, id), CALLER);              \
    }
#define STUB_RETURN(d, v, id) STUB_WITH_5(d, v, id, flk_results_return)
#define STUB_LIST(d, v, id) STUB_WITH_5(d, v, id, flk_results_list)
#define STUB_COOKIE(d, v, id)                                                  \
    static FILE *NAME(d, v, id)(void *cookie, const char *mode,                \
                                cookie_io_functions_t io) {                    \
        return flk_results_cookie(cookie, mode, io, NUMBER(d, v, id), CALLER); \
    }
#define STUB_OBJECT(d, v, id)                                              \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c, \
                                    uintptr_t w) {                         \
        return flk_results_object(a, b, c, w, NUMBER(d, v, id), CALLER);   \
    }
#define STUB_CLOSE(d, v, id)                                                 \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                     \
        if (FLK_LIKELY(!a || flk_stub_table_is_off()) &&                     \
            FLK_LIKELY(original != NULL))                                    \
            return original(a, b, c);                                        \
        return flk_results_close(a, b, c, NUMBER(d, v, id));                 \
    }
#define STUB_PYTHON(d, v, id, body)                                          \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        return body(a, b, c, NUMBER(d, v, id), CALLER);                      \
    }
// A va_list is passed as the address of one on both machines.
#define STUB_PRINT(d, v, id)                                           \
    static int NAME(d, v, id)(char **out, const char *format, ...) {   \
        va_list list;                                                  \
        va_start(list, format);                                        \
        int length = (int)flk_results_return(                          \
            (uintptr_t)out, (uintptr_t)format, (uintptr_t)&list, 0, 0, \
            NUMBER(d, v, V##id), CALLER);                              \
        va_end(list);                                                  \
        return length;                                                 \
    }
#define STUB_PRINT_CHK(d, v, id)                                               \
    static int NAME(d, v, id)(char **out, int flag, const char *format, ...) { \
        va_list list;                                                          \
        va_start(list, format);                                                \
        int length = (int)flk_results_return(                                  \
            (uintptr_t)out, (uintptr_t)flag, (uintptr_t)format,                \
            (uintptr_t)&list, 0, NUMBER(d, v, V##id), CALLER);                 \
        va_end(list);                                                          \
        return length;                                                         \
    }
#define STUB_VSCAN(d, v, id)                                                 \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        return flk_results_scan(a, b, c, NUMBER(d, v, id), CALLER);          \
    }
// Of scanf the format is the last fixed argument, of sscanf the one after it.
#define STUB_OF_SCAN(d, v, id, sizes) STUB_SCAN_##sizes(d, v, id)
#define STUB_SCAN_FIRST(d, v, id)                                              \
    static int NAME(d, v, id)(const char *format, ...) {                       \
        va_list list;                                                          \
        va_start(list, format);                                                \
        int count = (int)flk_results_scan((uintptr_t)format, (uintptr_t)&list, \
                                          0, NUMBER(d, v, V##id), CALLER);     \
        va_end(list);                                                          \
        return count;                                                          \
    }
#define STUB_SCAN_WIDE_FIRST(d, v, id) STUB_SCAN_FIRST(d, v, id)
#define STUB_SCAN_WIDE_SECOND(d, v, id) STUB_SCAN_SECOND(d, v, id)
#define STUB_SCAN_SECOND(d, v, id)                                           \
    static int NAME(d, v, id)(uintptr_t from, const char *format, ...) {     \
        va_list list;                                                        \
        va_start(list, format);                                              \
        int count =                                                          \
            (int)flk_results_scan(from, (uintptr_t)format, (uintptr_t)&list, \
                                  NUMBER(d, v, V##id), CALLER);              \
        va_end(list);                                                        \
        return count;                                                        \
    }
#define STUB_WITH_6(d, v, id)                                                \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c,   \
                                    uintptr_t w, uintptr_t x, uintptr_t y) { \
        uintptr_t words[6] = {a, b, c, w, x, y};                             \
        return flk_mappings_call(words, NUMBER(d, v, id), CALLER);           \
    }
#define STUB_MAP STUB_WITH_6
#define STUB_UNMAP STUB_WITH_6
#define STUB_REMAP STUB_WITH_6

#define STUB_OF_ALLOCATE(d, v, id, sizes) STUB_ALLOCATE(d, v, id)
#define STUB_OF_PLACE(d, v, id, sizes) STUB_PLACE(d, v, id)
#define STUB_OF_RESIZE(d, v, id, sizes) STUB_RESIZE(d, v, id)
#define STUB_OF_RELEASE(d, v, id, sizes) STUB_RELEASE(d, v, id)
#define STUB_OF_RETURN(d, v, id, sizes) STUB_RETURN(d, v, id)
#define STUB_OF_COOKIE(d, v, id, sizes) STUB_COOKIE(d, v, id)
#define STUB_OF_LIST(d, v, id, sizes) STUB_LIST(d, v, id)
#define STUB_OF_OBJECT(d, v, id, sizes) STUB_OBJECT(d, v, id)
#define STUB_OF_CLOSE(d, v, id, sizes) STUB_CLOSE(d, v, id)
#define STUB_OF_PYTHON_MAKE(d, v, id, sizes) \
    STUB_PYTHON(d, v, id, flk_interpreter_make)
#define STUB_OF_PYTHON_RESIZE(d, v, id, sizes) \
    STUB_PYTHON(d, v, id, flk_interpreter_resize)
#define STUB_OF_PYTHON_TEXT(d, v, id, sizes) \
    STUB_PYTHON(d, v, id, flk_interpreter_text)
#define STUB_OF_PRINT(d, v, id, sizes) STUB_PRINT(d, v, id)
#define STUB_OF_PRINT_CHK(d, v, id, sizes) STUB_PRINT_CHK(d, v, id)
#define STUB_OF_VSCAN(d, v, id, sizes) STUB_VSCAN(d, v, id)
#define STUB_OF_MAP(d, v, id, sizes) STUB_MAP(d, v, id)
#define STUB_OF_UNMAP(d, v, id, sizes) STUB_UNMAP(d, v, id)
#define STUB_OF_REMAP(d, v, id, sizes) STUB_REMAP(d, v, id)
#define STUB(d, v, id, symbol, text, shape, sizes, release) \
    STUB_OF_##shape(d, v, id, sizes)
#define STUBS_OF(family, d)                                                   \
    family(STUB, d, TRACED) family(STUB, d, UNTRACED) family(STUB, d, EXPORT) \
        family(STUB, d, RUNTIME)
#define STUBS(d)                         \
    STUBS_OF(FLK_FAMILY_OF_PROVIDERS, d) \
    STUBS_OF(FLK_FAMILY_MAP, d)
STUBS(0)
STUBS(1)
STUBS(2)
STUBS(3)
STUBS_OF(FLK_FAMILY_OF_LIBC, 0)
STUBS_OF(FLK_FAMILY_OF_PYTHON, 0)

#define STUB_ENTRY(d, v, id, symbol, text, shape, sizes, release) \
    [FLK_FN_##id] = (uintptr_t)NAME(d, v, id),
#define ENTRIES_VIA(d, v)                     \
    FLK_FAMILY_OF_PROVIDERS(STUB_ENTRY, d, v) \
    FLK_FAMILY_MAP(STUB_ENTRY, d, v)
#define ENTRIES(d)                  \
    {                               \
        {ENTRIES_VIA(d, TRACED)},   \
        {ENTRIES_VIA(d, UNTRACED)}, \
        {ENTRIES_VIA(d, EXPORT)},   \
        {ENTRIES_VIA(d, RUNTIME)},  \
    }
// 0 where flk_functions_is_single and the provider is not 0.
static const uintptr_t stubs[FLK_PROVIDERS_MAX][FLK_VIA_COUNT][FLK_FN_COUNT] = {
    {
        {FLK_FAMILY(STUB_ENTRY, 0, TRACED)},
        {FLK_FAMILY(STUB_ENTRY, 0, UNTRACED)},
        {FLK_FAMILY(STUB_ENTRY, 0, EXPORT)},
        {FLK_FAMILY(STUB_ENTRY, 0, RUNTIME)},
    },
    ENTRIES(1),
    ENTRIES(2),
    ENTRIES(3)};

// --- stubs by address ----------------------------------------------------
uintptr_t flk_stubs_at(unsigned provider, flk_function function, flk_via via) {
    FLK_ASSERT(provider < FLK_PROVIDERS_MAX && function < FLK_FN_COUNT &&
               via < FLK_VIA_COUNT);
    return stubs[flk_functions_is_single(function) ? 0 : provider][via]
                [function];
}

enum { STUB_COUNT = FLK_PROVIDERS_MAX * FLK_VIA_COUNT * FLK_FN_COUNT };

// The stubs by rising address. Under FLK_RANK_ATTACH, so consistent in the child
// of a fork.
static struct {
    uint16_t by_address[STUB_COUNT];
    unsigned count;  // 0: not sorted yet
} sorted;
_Static_assert(STUB_COUNT <= UINT16_MAX, "an index");

static uintptr_t stub_at(unsigned i) {
    FLK_ASSERT(i < STUB_COUNT);
    return (&stubs[0][0][0])[i];
}

// They mostly lie in the order of the table.
static void sort(void) {
    for (unsigned i = 0; i < STUB_COUNT; i++) {
        if (!stub_at(i))
            continue;
        unsigned k = sorted.count++;
        for (; k > 0 && stub_at(sorted.by_address[k - 1]) > stub_at(i); k--)
            sorted.by_address[k] = sorted.by_address[k - 1];
        sorted.by_address[k] = (uint16_t)i;
    }
}

void flk_stubs_span(uintptr_t *first, uintptr_t *last) {
    FLK_ASSERT(first != NULL && last != NULL);
    if (!sorted.count)
        sort();
    *first = stub_at(sorted.by_address[0]);
    *last = stub_at(sorted.by_address[sorted.count - 1]);
}

bool flk_stubs_find(uintptr_t address, unsigned *provider,
                    flk_function *function, flk_via *via) {
    uintptr_t first, last;
    flk_stubs_span(&first, &last);
    if (address < first || address > last)
        return false;
    unsigned low = 0, high = sorted.count;
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

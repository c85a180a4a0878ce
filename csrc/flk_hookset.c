// flk_hookset.c - one function for each definer, way and hooked function.    SPDX-License-Identifier: MIT
// The contract stands in flk_hook.h. A stub adds to the words it got which stub it is and who called, and goes to
// the body; where nothing is to be done it goes to the original at once, whose place in the table it knows. About 60
// bytes each.
#include "flk_hook.h"

#ifdef FLK_HAS_ELF
#include <stdarg.h>
#include <string.h>

#include "flk_stub.h"

#define CALLER __builtin_return_address(0)
#define SITE(d, v, id) FLK_SITE(d, FLK_VIA_##v, FLK_FN_##id)
#define NAME(d, v, id) stub_##d##_##v##_##id

// Where there is nothing to do: NULL if the original is not there yet.
#define ORIGINAL(d, v, id) \
    (flk_function_of_3) FLK_STUB_GET(SITE(d, v, id), original)

// A slot of an object that is not asked for: on behalf of one at most.
static inline bool allocates_only(flk_via via) {
    return flk_stub_state() != FLK_HOOKS_ON ||
           (via == FLK_VIA_QUIET && !flk_thread_marks()->on_behalf);
}

#define STUB_OF_3(d, v, id, body, has_nothing_to_do)                         \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                        \
        if (FLK_LIKELY(has_nothing_to_do) && FLK_LIKELY(original != NULL))   \
            return original(a, b, c);                                        \
        return body(a, b, c, SITE(d, v, id), CALLER);                        \
    }
#define STUB_ALLOCATE(d, v, id)                                              \
    STUB_OF_3(d, v, id, flk_hook_allocate, allocates_only(FLK_VIA_##v))
#define STUB_PLACE(d, v, id)                                                 \
    STUB_OF_3(d, v, id, flk_hook_place, allocates_only(FLK_VIA_##v))
#define STUB_RESIZE(d, v, id)                                                \
    STUB_OF_3(d, v, id, flk_hook_resize, flk_stub_is_off())
#define STUB_RELEASE(d, v, id)                                               \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c) { \
        flk_function_of_3 original = ORIGINAL(d, v, id);                        \
        if (FLK_LIKELY(!a || flk_stub_is_off()) &&           \
            FLK_LIKELY(original != NULL))                                    \
            return original(a, b, c);                                        \
        return FLK_FN_##id == FLK_FN_FREE                                    \
                   ? flk_hook_free(a, b, c, SITE(d, v, id))                  \
                   : flk_hook_release(a, b, c, SITE(d, v, id));              \
    }
#define STUB_LEND(d, v, id)                                                \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c, \
                                    uintptr_t w) {                         \
        return flk_hook_lend(a, b, c, w, SITE(d, v, id), CALLER);          \
    }
// A va_list is passed as the address of one on both machines.
#define STUB_PRINT(d, v, id)                                               \
    static int NAME(d, v, id)(char **out, const char *format, ...) {       \
        va_list list;                                                      \
        va_start(list, format);                                            \
        int length = (int)flk_hook_lend((uintptr_t)out, (uintptr_t)format, \
                                        (uintptr_t)&list, 0,               \
                                        SITE(d, v, V##id), CALLER);        \
        va_end(list);                                                      \
        return length;                                                     \
    }
#define STUB_PRINT_CHK(d, v, id)                                              \
    static int NAME(d, v, id)(char **out, int flag, const char *format,       \
                              ...) {                                          \
        va_list list;                                                         \
        va_start(list, format);                                               \
        int length = (int)flk_hook_lend((uintptr_t)out, (uintptr_t)flag,      \
                                        (uintptr_t)format, (uintptr_t)&list,  \
                                        SITE(d, v, V##id), CALLER);           \
        va_end(list);                                                         \
        return length;                                                        \
    }
#define STUB_OF_6(d, v, id)                                                 \
    static uintptr_t NAME(d, v, id)(uintptr_t a, uintptr_t b, uintptr_t c,  \
                                    uintptr_t w, uintptr_t x, uintptr_t y) { \
        uintptr_t words[6] = {a, b, c, w, x, y};                            \
        return flk_hook_map(words, SITE(d, v, id), CALLER);                 \
    }
#define STUB_MAP STUB_OF_6
#define STUB_UNMAP STUB_OF_6
#define STUB_REMAP STUB_OF_6

#define STUB(d, v, id, symbol, text, shape, sizes, release) \
    STUB_##shape(d, v, id)
#define STUBS(d)                \
    FLK_FAMILY(STUB, d, ASKED)  \
    FLK_FAMILY(STUB, d, QUIET)  \
    FLK_FAMILY(STUB, d, EXPORT)
STUBS(0)
STUBS(1)
STUBS(2)
STUBS(3)

#define ENTRY(d, v, id, symbol, text, shape, sizes, release) \
    (uintptr_t)NAME(d, v, id),
#define ENTRIES(d)                            \
    {                                         \
        {FLK_FAMILY(ENTRY, d, ASKED)},        \
            {FLK_FAMILY(ENTRY, d, QUIET)},    \
            {FLK_FAMILY(ENTRY, d, EXPORT)},   \
    }
static const uintptr_t stubs[FLK_DEFINERS_MAX][FLK_VIA_COUNT][FLK_FN_COUNT] =
    {ENTRIES(0), ENTRIES(1), ENTRIES(2), ENTRIES(3)};

#define INFO(x_, id, symbol, text, shape, sizes, release) \
    {symbol, text, release, FLK_SHAPE_##shape, FLK_SIZES_##sizes},
const flk_function_info flk_hook_info[FLK_FN_COUNT] = {FLK_FAMILY(INFO, 0)};

#define ALIAS(symbol, id) {symbol, FLK_FN_##id},
static const struct alias {
    const char *symbol;
    flk_function function;
} aliases[] = {FLK_FAMILY_ALIASES(ALIAS)};
enum { ALIASES = sizeof aliases / sizeof *aliases };

// --- stubs by place ----------------------------------------------------
uintptr_t flk_hook_stub(unsigned definer, flk_function function,
                        flk_via via) {
    return stubs[definer][via][function];
}

enum { STUB_COUNT = FLK_DEFINERS_MAX * FLK_VIA_COUNT * FLK_FN_COUNT };

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

bool flk_hook_is_stub(uintptr_t address, unsigned *definer,
                      flk_function *function, flk_via *via) {
    if (!span.is_ready)
        find_span();
    if (address < span.first || address > span.last)
        return false;
    const uintptr_t *all = &stubs[0][0][0];
    for (unsigned i = 0; i < STUB_COUNT; i++)
        if (all[i] == address) {
            *definer = i / (FLK_VIA_COUNT * FLK_FN_COUNT);
            *via = (flk_via)(i / FLK_FN_COUNT % FLK_VIA_COUNT);
            *function = (flk_function)(i % FLK_FN_COUNT);
            return true;
        }
    return false;
}

// --- names -------------------------------------------------------------
enum { NAMES = FLK_FN_COUNT + ALIASES, PLACES = 512 };
_Static_assert(NAMES * 4 <= PLACES, "few probes for names not in the family");

static const char *name_at(unsigned i) {
    return i < FLK_FN_COUNT ? flk_hook_info[i].symbol
                            : aliases[i - FLK_FN_COUNT].symbol;
}

static unsigned place_of(const char *symbol) {
    uint32_t hash = 0;
    for (const char *c = symbol; *c; c++)
        hash = hash * 31 + (unsigned char)*c;
    return hash * UINT32_C(0x9e3779b1) >> 23;
}
_Static_assert(PLACES == 1 << (32 - 23), "the hash's upper bits");

// 1 + the number of a name; 0 free. Under FLK_RANK_ATTACH.
static uint8_t places[PLACES];

static void fill_places(void) {
    for (unsigned i = 0; i < NAMES; i++) {
        unsigned place = place_of(name_at(i));
        while (places[place])
            place = (place + 1) % PLACES;
        places[place] = (uint8_t)(i + 1);
    }
}

flk_function flk_hook_named(const char *symbol) {
    static bool is_filled;
    if (!is_filled)
        fill_places();
    is_filled = true;
    unsigned place = place_of(symbol);
    for (; places[place]; place = (place + 1) % PLACES) {
        unsigned i = places[place] - 1u;
        if (strcmp(name_at(i), symbol) == 0)
            return i < FLK_FN_COUNT ? (flk_function)i
                                    : aliases[i - FLK_FN_COUNT].function;
    }
    return FLK_FN_COUNT;
}
#endif

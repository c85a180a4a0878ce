// functions.c - the table, and a hash index of its names. Contract: hooks/functions.h. SPDX-License-Identifier: MIT
#include "hooks/functions.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/platform.h"

#define INFO(x_, id, symbol, text, shape, sizes, release) \
    {symbol, text, release, FLK_SHAPE_##shape, FLK_SIZES_##sizes},
const flk_function_info flk_functions_info[FLK_FN_COUNT] = {
    FLK_FAMILY(INFO, 0)};

#define ALIAS(symbol, id) {symbol, FLK_FN_##id},
static const struct alias {
    const char *symbol;
    flk_function function;
} aliases[] = {FLK_FAMILY_ALIASES(ALIAS)};
enum { ALIASES = sizeof aliases / sizeof *aliases };

// --- variadic functions ------------------------------------------------
// A variadic function stands right after its variant, except asprintf.
flk_function flk_functions_variant(flk_function function) {
    FLK_ASSERT(function < FLK_FN_COUNT);
    switch (flk_functions_info[function].shape) {
    case FLK_SHAPE_PRINT:
        return FLK_FN_VASPRINTF;
    case FLK_SHAPE_PRINT_CHK:
        return FLK_FN_VASPRINTF_CHK;
    case FLK_SHAPE_SCAN:
        return (flk_function)(function - 1);
    default:
        return FLK_FN_COUNT;
    }
}

// --- names -------------------------------------------------------------
enum { NAMES = FLK_FN_COUNT + ALIASES, PLACES = 1024 };
_Static_assert(NAMES * 4 <= PLACES, "a name that is not hooked: few probes");

static const char *name_at(unsigned i) {
    FLK_ASSERT(i < NAMES);
    return i < FLK_FN_COUNT ? flk_functions_info[i].symbol
                            : aliases[i - FLK_FN_COUNT].symbol;
}

static unsigned home_of(const char *symbol) {
    uint32_t hash = 0;
    for (const char *c = symbol; *c; c++)
        hash = hash * 31 + (unsigned char)*c;
    return hash * UINT32_C(0x9e3779b1) >> 22;
}
_Static_assert(PLACES == 1 << (32 - 22), "the hash's upper bits");

// 1 + the index of a name; 0 = free. Under FLK_RANK_ATTACH, so consistent in
// the child of a fork.
static uint8_t places[PLACES];
_Static_assert(NAMES < 256, "an index is one byte");

static void fill_places(void) {
    for (unsigned i = 0; i < NAMES; i++) {
        unsigned place = home_of(name_at(i));
        FLK_ASSERT(place < PLACES);
        while (places[place])
            place = (place + 1) % PLACES;
        places[place] = (uint8_t)(i + 1);
    }
}

flk_function flk_functions_named(const char *symbol) {
    static bool is_filled;
    FLK_ASSERT(symbol != NULL);
    if (!is_filled)
        fill_places();
    is_filled = true;
    unsigned place = home_of(symbol);
    for (; places[place]; place = (place + 1) % PLACES) {
        unsigned i = places[place] - 1u;
        if (strcmp(name_at(i), symbol) == 0)
            return i < FLK_FN_COUNT ? (flk_function)i
                                    : aliases[i - FLK_FN_COUNT].function;
    }
    return FLK_FN_COUNT;
}

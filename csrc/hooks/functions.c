// functions.c - the table, and names found by hash. Contract: hooks/functions.h. SPDX-License-Identifier: MIT
#include "hooks/functions.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

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

// --- names -------------------------------------------------------------
enum { NAMES = FLK_FN_COUNT + ALIASES, PLACES = 512 };
_Static_assert(NAMES * 4 <= PLACES, "few probes for names not in the family");

static const char *name_at(unsigned i) {
    return i < FLK_FN_COUNT ? flk_functions_info[i].symbol
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

flk_function flk_functions_named(const char *symbol) {
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

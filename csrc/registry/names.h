// names.h - (C type, kind, release) as a small number, called a type.        SPDX-License-Identifier: MIT
// Keeps:   an entry for each distinct triple, for ever; a number is not reused. 0 is "no type".
// Cost:    intern: one lock and one probe (callers keep the number). Reading an entry: no lock, O(1).
// Callers: any thread. Lock rank: FLK_RANK_NAMES.
// Fails:   no page left: flk_names_intern returns 0. Past FLK_NAMES_DISTINCT triples the type text of new ones is
//          replaced by FLK_NAMES_OTHER, so that their blocks are still recorded and released right; each is counted
//          in flk_names_merged.
// Invariant: the index holds each number once; entries below the count are complete. Checked by flk_names_check().
#ifndef FLK_NAMES_H
#define FLK_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/values.h"

// The last numbers are kept for pairs of (kind, release) without a type text.
#define FLK_NAMES_DISTINCT (FLK_TYPES_MAX - 255)
#define FLK_NAMES_OTHER "(more than 65280 types)"

// Texts are copied; those of FLK_TYPE_NAME_MAX bytes and more are cut, at the
// start of a UTF-8 character.
uint16_t flk_names_intern(const char *type, const char *kind,
                          const char *release);
// Entry 0, and those of numbers never given out, have the texts "?".
const flk_name *flk_names_at(uint16_t id);
uint32_t flk_names_count(void);  // 1..count are in use
uint64_t flk_names_merged(void);
bool flk_names_check(void);
void flk_names_lock_all(void);
void flk_names_unlock_all(void);

#endif

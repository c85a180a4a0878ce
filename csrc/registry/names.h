// names.h - (C type, kind, release) as a small number, called a type.        SPDX-License-Identifier: MIT
// Keeps:   an entry for each distinct triple, until the process ends. A number is never reused. 0 means "no type".
// Cost:    intern: one lock and one probe; callers keep the number. Reading an entry: O(1) without a lock.
// Callers: any thread. Lock rank: FLK_RANK_NAMES.
// Fails:   flk_names_intern returns 0 without memory. Beyond FLK_NAMES_DISTINCT triples the type text of a new triple
//          is replaced by FLK_NAMES_OTHER. Its blocks are still recorded and released correctly. flk_names_merged
//          counts the replacements.
// Invariant: the index holds each number once; entries 1..count are complete. Checked by flk_names_check().
#ifndef FLK_NAMES_H
#define FLK_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/values.h"

// The last 255 numbers are reserved for pairs of (kind, release) whose type text
// is FLK_NAMES_OTHER.
#define FLK_NAMES_DISTINCT (FLK_TYPES_MAX - 255)
#define FLK_NAMES_OTHER "(more than 65280 types)"

// The number of a triple; a new triple gets a new number. Texts are copied. A
// text of FLK_TYPE_NAME_MAX bytes or more is cut between two UTF-8
// characters.
uint16_t flk_names_intern(const char *type, const char *kind,
                          const char *release);
// The entry of a number. Entry 0, and the entry of a number never given out,
// have the texts "?".
const flk_name *flk_names_at(uint16_t id);
uint32_t flk_names_count(void);   // the numbers 1..count are in use
uint64_t flk_names_merged(void);  // replaced type texts
bool flk_names_check(void);
void flk_names_lock_all(void);
void flk_names_unlock_all(void);

#endif

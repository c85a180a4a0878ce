// names.h - types: (C type name, kind, release) as one small number.     SPDX-License-Identifier: MIT
// Keeps:   an entry for each distinct triple, for ever; an id is never reused. Id 0 is "no type".
// Cost:    intern one probe and one lock (callers cache the id); reading by id no lock, O(1).
// Callers: any thread, inside the guard. Lock rank: FLK_RANK_NAMES.
// Fails:   limit or no page left: returns 0.
// Invariant: index holds each id once; entries below the count are complete. Checked by flk_names_check().
#ifndef FLK_NAMES_H
#define FLK_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"

// Texts are copied; those longer than FLK_TYPE_NAME_MAX are cut.
uint16_t flk_names_intern(const char *type, const char *kind,
                          const char *release);
// Entry 0 and ids never given out have the texts "?".
const flk_name *flk_names_at(uint16_t id);
uint32_t flk_names_count(void);  // ids 1..count are in use
bool flk_names_check(void);
void flk_names_lock_all(void);
void flk_names_unlock_all(void);

#endif

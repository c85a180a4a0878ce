// misuse.h - counts misuse and queues misuse without a caller to report to. SPDX-License-Identifier: MIT
// Keeps:   a counter for each kind, and a ring of the last FLK_MISUSES_MAX unreported misuses.
// Cost:    O(1), in the case of misuse only. Callers: any thread, inside the guard. Lock rank: FLK_RANK_RECENT.
#ifndef FLK_MISUSE_H
#define FLK_MISUSE_H

#include <stdbool.h>

#include "base/values.h"

// Counts a misuse. Verdicts that are not misuse are ignored.
void flk_misuse_count(int verdict);
uint64_t flk_misuse_counted(int verdict);
void flk_misuse_clear(void);
// Adds a misuse to the ring. If the ring is full, the oldest one is overwritten.
void flk_misuse_push(const flk_misuse *misuse);
// Takes the oldest misuse. Returns false if there is none.
bool flk_misuse_pop(flk_misuse *out);
void flk_misuse_lock_all(void);
void flk_misuse_unlock_all(void);

#endif

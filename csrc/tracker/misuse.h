// misuse.h - counts misuse, and queues what no caller was told.              SPDX-License-Identifier: MIT
// Keeps:   a counter for each verdict below 0, and a ring of the last 64 cases that were found where no error can be
//          raised (in C code, or by a check of all blocks).
// Cost:    O(1), and only for misuse. Callers: any thread. Lock rank: FLK_RANK_RECENT.
// Fails:   never. In a full ring the oldest case is replaced; the counters are exact.
// Invariant: next - first <= 64.
#ifndef FLK_MISUSE_H
#define FLK_MISUSE_H

#include <stdbool.h>

#include "base/values.h"

void flk_misuse_count(int verdict);  // nothing for verdicts that are no misuse
uint64_t flk_misuse_counted(int verdict);
void flk_misuse_clear(void);  // the counters
void flk_misuse_push(const flk_misuse *misuse);
bool flk_misuse_pop(flk_misuse *out);  // the oldest; false: the ring is empty
void flk_misuse_lock_all(void);
void flk_misuse_unlock_all(void);

#endif

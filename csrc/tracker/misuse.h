// misuse.h - counts misuse and queues what no caller could be told of.   SPDX-License-Identifier: MIT
// Keeps:   a counter a kind and a ring of the last 64 untold ones.
// Cost:    O(1); only misuse pays it. Callers: any thread, inside the guard. Lock rank: FLK_RANK_RECENT.
#ifndef FLK_MISUSE_H
#define FLK_MISUSE_H

#include <stdbool.h>

#include "base/values.h"

void flk_misuse_count(int verdict);
uint64_t flk_misuse_counted(int verdict);
void flk_misuse_clear(void);
// The oldest one makes room when the ring is full.
void flk_misuse_push(const flk_misuse *misuse);
bool flk_misuse_pop(flk_misuse *out);
void flk_misuse_lock_all(void);
void flk_misuse_unlock_all(void);

#endif

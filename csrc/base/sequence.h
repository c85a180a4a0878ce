// sequence.h - numbers of events: unique, rising in a thread, dated.     SPDX-License-Identifier: MIT
// Keeps:   one counter for the process, from which threads take blocks; the tick of the clock is its upper part,
//          so that a number alone says when it was given, to 10 ms, and no table of times is kept.
// Cost:    a number from an open block: one compare of tick and epoch; a new block: one compare-and-swap, at
//          most each FLK_SEQUENCE_BLOCK events and once a tick.
// Callers: any thread, inside the guard. No lock.
// Source:  a hybrid logical clock (Kulkarni et al., 2014), in blocks. Why not a time index: csrc/README.md.
#ifndef FLK_SEQUENCE_H
#define FLK_SEQUENCE_H

#include <stdint.h>

// One thread's open block; zero-initialised is closed.
typedef struct flk_sequence_block {
    uint64_t next, end;  // numbers left: next <= n < end
    uint64_t tick;       // the tick it was opened in
    uint64_t epoch;      // the epoch it was opened in
} flk_sequence_block;

void flk_sequence_init(void);
// The current tick; one read of the coarse clock.
uint64_t flk_sequence_tick(void);
uint64_t flk_sequence_take(flk_sequence_block *block, uint64_t tick);
// A number that all later events reach or exceed and all earlier ones stay
// below. Open blocks are retired.
uint64_t flk_sequence_mark(void);
// When a number was given: nanoseconds since the epoch (wall clock of init
// plus the steady clock since), and how old that is now.
uint64_t flk_sequence_wall_time(uint64_t sequence);
uint64_t flk_sequence_age(uint64_t sequence);

#endif

// sequence.h - sequence numbers of events: unique, rising in a thread, dated. SPDX-License-Identifier: MIT
// Keeps:   one counter for the process, from which threads take blocks of numbers. The upper bits of a number are
//          the clock tick, so the number itself dates the event to 10 ms and no table of times is needed.
// Cost:    a number from an open block: a comparison of tick and epoch. A new block: one compare-and-swap, once in
//          FLK_SEQUENCE_BLOCK events and once a tick.
// Callers: any thread, inside its guard. No lock.
// Invariant: no two events have the same number; the numbers of one thread rise.
// Source:  a hybrid logical clock (Kulkarni et al., 2014), in blocks. Why not an index of times: csrc/README.md.
#ifndef FLK_SEQUENCE_H
#define FLK_SEQUENCE_H

#include <stdint.h>

// The block of numbers that a thread has open. All zero: none is open.
typedef struct flk_sequence_block {
    uint64_t next, end;  // the numbers left: next <= n < end
    uint64_t tick;       // the tick it was opened in
    uint64_t epoch;      // the epoch it was opened in
} flk_sequence_block;

void flk_sequence_init(void);  // once, before the first event
// The current tick: one read of the coarse clock.
uint64_t flk_sequence_tick(void);
// The next number of the block, which is opened anew when it is used up, or
// was opened in another tick or epoch.
uint64_t flk_sequence_take(flk_sequence_block *block, uint64_t tick);
// A mark: the numbers of all earlier events are below it, those of all later
// events are not. Open blocks are retired.
uint64_t flk_sequence_mark(void);
// The time of a number in nanoseconds since 1970 (the wall clock at init plus
// the steady clock since), and its age in nanoseconds.
uint64_t flk_sequence_wall_time(uint64_t sequence);
uint64_t flk_sequence_age(uint64_t sequence);

#endif

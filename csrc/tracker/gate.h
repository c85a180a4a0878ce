// gate.h - whether tracking is on: by the user's switch or by an open scope.  SPDX-License-Identifier: MIT
// Keeps:   the switch, the number of open scopes, and the pauses of each thread. Tracking is on while the switch is on
//          or a scope is open, and no pause lasts. Switching off inside a scope holds until the switch is set on, or
//          a new outermost scope opens; when the last scope ends, the switch alone counts.
// Cost:    one lock. Callers: any thread. Lock rank: FLK_RANK_GATE.
// Invariant: the pauses are the sum of those of all threads. In the child of a fork only the pauses of the forking
//            thread go on: no other thread is there to end its own.
#ifndef FLK_GATE_H
#define FLK_GATE_H

#include <stdbool.h>

void flk_gate_set(bool on);       // the user's switch
void flk_gate_scope(int change);  // +1: a scope opens, -1: one ends
// So many pauses begin (> 0) or end (< 0); they nest, and any thread may end
// them. An end without a pause (which a fork may have ended) is ignored.
void flk_gate_pause(int change);
void flk_gate_forbid(void);  // off from now on, whatever else is called
int flk_gate_scopes(void);   // open now
int flk_gate_pauses(void);   // that last now
void flk_gate_forked(void);  // in the child of a fork, in its only thread
void flk_gate_lock_all(void);
void flk_gate_unlock_all(void);

#endif

// gate.h - switches tracking on and off.                                     SPDX-License-Identifier: MIT
// Keeps:   the explicit setting (flk_gate_set), the number of open scopes, whether hooks are attached, and the pauses
//          of each thread. Tracking is on if the setting is on, a scope is open, or hooks are attached. Setting it to
//          off overrides open scopes until it is set to on or a new outermost scope opens. It overrides attached
//          hooks until it is set to on or hooks are attached again. When no scope is open and no hooks are attached,
//          the setting alone decides. A pause turns tracking off in every case.
// Cost:    one lock. Callers: any thread. Lock rank: FLK_RANK_GATE. The follower is called without the lock.
// Invariant: the number of pauses is the sum of the pauses of all threads. In the child of a fork only the pauses of
//            the forking thread remain, since the other threads do not exist there and could not end theirs.
#ifndef FLK_GATE_H
#define FLK_GATE_H

#include <stdbool.h>

void flk_gate_set(bool on);       // the explicit setting
void flk_gate_scope(int change);  // a scope opens (+1) or ends (-1)
void flk_gate_attach(bool on);    // hooks are attached, or detached
// Begins `change` pauses, or ends -change pauses if it is negative. Pauses
// nest. Any thread may end them. An end without a pause is ignored, since a
// fork may have ended the pause.
void flk_gate_pause(int change);
void flk_gate_forbid(void);  // tracking stays off from now on
int flk_gate_scopes(void);   // number of open scopes
int flk_gate_pauses(void);   // number of current pauses
// Sets the follower. It is called after tracking was switched on or off, in
// the thread that switched it. The process has one follower. The follower reads
// flk_tracker_is_enabled().
void flk_gate_follow(void (*follower)(void));
// Called in the child of a fork, in its only thread. The follower is not
// called, since the fork handlers hold its lock. They read
// flk_tracker_is_enabled() instead.
void flk_gate_forked(void);
void flk_gate_lock_all(void);
void flk_gate_unlock_all(void);

#endif

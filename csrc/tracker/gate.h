// gate.h - is tracking on? By the user's word, a scope or an attachment.   SPDX-License-Identifier: MIT
// Keeps:   the user's word, open scopes, whether hooks are attached, and the pauses of each thread. `off` inside a
//          scope holds until `on` or a new outermost scope; while hooks are attached, until `on` or the next attach.
//          When the last scope and the attachments have ended, the user's word counts. A pause turns all of it off.
// Cost:    one lock. Callers: any thread. Lock rank: FLK_RANK_GATE; the follower is called without the lock.
// Invariant: the pauses are the sum of those of all threads. In the child of a fork only the pauses of the forking
//            thread go on: no other thread is there to end its own.
#ifndef FLK_GATE_H
#define FLK_GATE_H

#include <stdbool.h>

void flk_gate_set(bool on);       // the user's word
void flk_gate_scope(int change);  // a scope opens (+1) or ends (-1)
void flk_gate_attach(bool on);    // hooks are attached (anew), or no more
// So many pauses begin (> 0) or end (< 0); they nest, and any thread may end
// them. An end without a pause (which a fork may have ended) is ignored.
void flk_gate_pause(int change);
void flk_gate_forbid(void);  // never on, from now on
int flk_gate_scopes(void);   // open now
int flk_gate_pauses(void);   // that last now
// Called in the thread that switched tracking on or off, after it. One
// function for the process, which reads flk_tracker_is_enabled().
void flk_gate_follow(void (*follower)(void));
// In the child of a fork, in its only thread. The follower is not called,
// since fork handlers hold its lock: they read flk_tracker_is_enabled().
void flk_gate_forked(void);
void flk_gate_lock_all(void);
void flk_gate_unlock_all(void);

#endif

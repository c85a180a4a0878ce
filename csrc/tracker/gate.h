// gate.h - switches tracking on and off.                                     SPDX-License-Identifier: MIT
// Keeps:   the explicit setting (flk_gate_set), the open scopes and the pauses of each holder (a thread, or the process),
//          and whether hooks are attached. Tracking is on if the setting is on, a scope is open, or hooks are attached. Setting it to
//          off overrides open scopes until it is set to on or a new outermost scope opens. It overrides attached
//          hooks until it is set to on or hooks are attached again. When no scope is open and no hooks are attached,
//          the setting alone decides. A pause turns tracking off in every case.
// Cost:    one lock. Callers: any thread. Lock rank: FLK_RANK_GATE. The follower is called without the lock.
// Invariant: the numbers of scopes and of pauses are the sums over all holders. In the child of a fork only those of the
//            forking thread and of the process remain: no code could end the others. An object that began one of them
//            may exist in the child, and its end is ignored there.
#ifndef FLK_GATE_H
#define FLK_GATE_H

#include <stdbool.h>
#include <stdint.h>

// A holder is the number of a thread.
#define FLK_GATE_PROCESS 0u      // the process, or a thread without a number
#define FLK_GATE_ANY UINT32_MAX  // for an end: any holder that has one

void flk_gate_set(bool on);       // the explicit setting
void flk_gate_attach(bool on);    // hooks are attached, or detached
bool flk_gate_is_attached(void);  // O(1), without a lock
// A scope opens, and ends. Returns its holder: the process for a scope of all
// threads, else this thread. Any thread may end it.
uint32_t flk_gate_scope_begin(bool is_of_process);
void flk_gate_scope_end(uint32_t holder);
// A pause begins, and ends. Pauses nest. Returns the holder, this thread. Any
// thread may end it. An end for a holder that has none is ignored.
uint32_t flk_gate_pause_begin(void);
void flk_gate_pause_end(uint32_t holder);
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

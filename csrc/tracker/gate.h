// gate.h - is tracking on? By the user's word, or because a scope is open. SPDX-License-Identifier: MIT
// Keeps:   the user's word, open scopes, pauses. `off` inside a scope holds until somebody says on again or a
//          new outermost scope opens; when the last scope ends, the user's word counts.
// Cost:    one lock. Callers: any thread. Lock rank: FLK_RANK_GATE (the lowest).
#ifndef FLK_GATE_H
#define FLK_GATE_H

#include <stdbool.h>

void flk_gate_set(bool on);       // the user's word
void flk_gate_scope(int change);  // a scope opens (+1) or ends (-1)
void flk_gate_pause(int change);  // pauses nest
void flk_gate_forbid(void);       // never on, from now on
int flk_gate_scopes(void);        // open now
int flk_gate_pauses(void);        // nested now
void flk_gate_lock_all(void);
void flk_gate_unlock_all(void);

#endif

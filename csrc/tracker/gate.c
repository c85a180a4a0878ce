// gate.c - the switch. Contract: tracker/gate.h.                             SPDX-License-Identifier: MIT
#include "tracker/gate.h"

#include "base/platform.h"
#include "tracker/tracker.h"

static struct {
    flk_lock lock;  // guards the rest
    int scopes, pauses;
    bool wanted, silenced, forbidden;
} gate = {.lock = FLK_LOCK_INIT(FLK_RANK_GATE)};

static void apply(void) {
    bool by_scope = gate.scopes > 0 && !gate.silenced;
    bool on = !gate.forbidden && gate.pauses == 0 && (gate.wanted || by_scope);
    if (on != flk_tracker_is_enabled())
        flk_tracker_enable(on);
}

void flk_gate_set(bool on) {
    flk_lock_take(&gate.lock);
    gate.wanted = on;
    gate.silenced = !on;
    apply();
    flk_lock_release(&gate.lock);
}

void flk_gate_scope(int change) {
    flk_lock_take(&gate.lock);
    gate.scopes += change;
    FLK_ASSERT(gate.scopes >= 0);
    bool outermost = gate.scopes == (change > 0 ? 1 : 0);
    if (outermost) {
        gate.silenced = false;
        apply();
    }
    flk_lock_release(&gate.lock);
}

void flk_gate_pause(int change) {
    flk_lock_take(&gate.lock);
    gate.pauses += change;
    apply();
    flk_lock_release(&gate.lock);
}

void flk_gate_forbid(void) {
    flk_lock_take(&gate.lock);
    gate.forbidden = true;
    apply();
    flk_lock_release(&gate.lock);
}

int flk_gate_scopes(void) {
    flk_lock_take(&gate.lock);
    int count = gate.scopes;
    flk_lock_release(&gate.lock);
    return count;
}

int flk_gate_pauses(void) {
    flk_lock_take(&gate.lock);
    int count = gate.pauses;
    flk_lock_release(&gate.lock);
    return count;
}

void flk_gate_lock_all(void) { flk_lock_take(&gate.lock); }
void flk_gate_unlock_all(void) { flk_lock_release(&gate.lock); }

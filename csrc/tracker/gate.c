// gate.c - the switch. Contract: tracker/gate.h.                             SPDX-License-Identifier: MIT
#include "tracker/gate.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/config.h"
#include "base/platform.h"
#include "tracker/tracker.h"

// Indexed by holder. Pages that are never touched use no memory.
typedef struct gate_holds {
    uint32_t count;  // the sum of the others
    uint32_t of[FLK_THREADS_MAX + 1];
} gate_holds;

static struct {
    flk_lock lock;  // guards the rest
    gate_holds scopes, pauses;
    bool wanted, forbidden;
    atomic_bool is_attached;  // read without the lock, too
    // Tracking was set to off while scopes were open or hooks attached.
    bool scopes_silenced, hooks_silenced;
} gate = {.lock = FLK_LOCK_INIT(FLK_RANK_GATE)};

static _Atomic(void (*)(void)) gate_follower;

// Called with the lock held. Returns true if tracking was switched.
static bool apply(void) {
    bool by_scope = gate.scopes.count > 0 && !gate.scopes_silenced;
    bool by_hooks = gate.is_attached && !gate.hooks_silenced;
    bool on = !gate.forbidden && gate.pauses.count == 0 &&
              (gate.wanted || by_scope || by_hooks);
    bool is_changed = on != flk_tracker_is_enabled();
    if (is_changed)
        flk_tracker_enable(on);
    return is_changed;
}

static void apply_and_release(void) {
    bool is_changed = apply();
    flk_lock_release(&gate.lock);
    void (*follower)(void) = is_changed ? atomic_load(&gate_follower) : NULL;
    if (follower)
        follower();
}

void flk_gate_follow(void (*follower)(void)) {
    atomic_store(&gate_follower, follower);
}

void flk_gate_set(bool on) {
    flk_lock_take(&gate.lock);
    gate.wanted = on;
    gate.scopes_silenced = gate.hooks_silenced = !on;
    apply_and_release();
}

// --- scopes and pauses -------------------------------------------------
static uint32_t own_number(void) {
    flk_thread *thread = flk_thread_hold();
    uint32_t number = thread ? thread->number : 0;
    flk_thread_let_go(thread);
    FLK_ASSERT(number <= FLK_THREADS_MAX);
    return number;
}

static void add_hold(gate_holds *all, uint32_t holder) {
    FLK_ASSERT(holder <= FLK_THREADS_MAX);
    all->of[holder]++;
    all->count++;
}

// False: the holder has none, since a fork ended it.
static bool drop_hold(gate_holds *all, uint32_t holder) {
    FLK_ASSERT(holder <= FLK_THREADS_MAX || holder == FLK_GATE_ANY);
    if (all->count == 0)
        return false;
    if (holder == FLK_GATE_ANY)
        for (holder = 0; all->of[holder] == 0;)
            holder++;
    if (all->of[holder] == 0)
        return false;
    all->of[holder]--;
    all->count--;
    return true;
}

// Releases the lock. `is_outermost`: the first scope opened or the last ended.
static void release_scope(bool is_outermost) {
    if (!is_outermost) {
        flk_lock_release(&gate.lock);
        return;
    }
    gate.scopes_silenced = false;
    apply_and_release();
}

uint32_t flk_gate_scope_begin(bool is_of_process) {
    uint32_t holder = is_of_process ? FLK_GATE_PROCESS : own_number();
    flk_lock_take(&gate.lock);
    add_hold(&gate.scopes, holder);
    release_scope(gate.scopes.count == 1);
    return holder;
}

void flk_gate_scope_end(uint32_t holder) {
    flk_lock_take(&gate.lock);
    bool ends = drop_hold(&gate.scopes, holder);
    release_scope(ends && gate.scopes.count == 0);
}

void flk_gate_attach(bool on) {
    flk_lock_take(&gate.lock);
    gate.is_attached = on;
    gate.hooks_silenced = false;
    apply_and_release();
}

bool flk_gate_is_attached(void) {
    return atomic_load_explicit(&gate.is_attached, memory_order_relaxed);
}

uint32_t flk_gate_pause_begin(void) {
    uint32_t holder = own_number();
    flk_lock_take(&gate.lock);
    add_hold(&gate.pauses, holder);
    apply_and_release();
    return holder;
}

void flk_gate_pause_end(uint32_t holder) {
    flk_lock_take(&gate.lock);
    drop_hold(&gate.pauses, holder);
    apply_and_release();
}

// Only the gate_holds of two holders remain.
static void keep_only(gate_holds *all, uint32_t one, uint32_t other) {
    FLK_ASSERT(one <= FLK_THREADS_MAX && other <= FLK_THREADS_MAX);
    uint32_t of_one = all->of[one], of_other = all->of[other];
    uint32_t kept = of_one + (one == other ? 0 : of_other);
    FLK_ASSERT(kept <= all->count);
    if (kept != all->count)
        memset(all->of, 0, sizeof all->of);
    all->of[one] = of_one;
    all->of[other] = of_other;
    all->count = kept;
}

void flk_gate_forked(void) {
    uint32_t number = own_number();
    flk_lock_take(&gate.lock);
    keep_only(&gate.pauses, number, number);
    keep_only(&gate.scopes, number, FLK_GATE_PROCESS);
    apply();
    flk_lock_release(&gate.lock);
}

void flk_gate_forbid(void) {
    flk_lock_take(&gate.lock);
    gate.forbidden = true;
    apply_and_release();
}

int flk_gate_scopes(void) {
    flk_lock_take(&gate.lock);
    int count = (int)gate.scopes.count;
    FLK_ASSERT(count >= 0);
    flk_lock_release(&gate.lock);
    return count;
}

int flk_gate_pauses(void) {
    flk_lock_take(&gate.lock);
    int count = (int)gate.pauses.count;
    FLK_ASSERT(count >= 0);
    flk_lock_release(&gate.lock);
    return count;
}

void flk_gate_lock_all(void) { flk_lock_take(&gate.lock); }
void flk_gate_unlock_all(void) { flk_lock_release(&gate.lock); }

// judge.h - the release of an address that is not recorded.                 SPDX-License-Identifier: MIT
// Keeps:   whether a proven misuse is passed on, and whether suspicions are told.
// Cost:    release: some loads, and for a slot of a traced object a search for a block around the address. What looks
//          like misuse: microseconds to milliseconds, once for each.
// Callers: hooks, outside the guard and without a lock, before the original function is called.
// Fails:   never: what is not proven is passed on. In a signal handler that interrupted the tracker, and during a fork,
//          nothing is judged.
#ifndef FLK_JUDGE_H
#define FLK_JUDGE_H

#include "hooks/proof.h"
#include "hooks/report.h"

#ifdef FLK_HAS_ELF
#include "tracker/freed.h"
#include "tracker/recent.h"

// Around a change of slots or of the state of the hooks, meanwhile nothing is
// suspected. At the end the remembered frees are forgotten.
void flk_judge_settle(bool begins);
// Whether proven misuse is passed on to the original function, and whether
// misuse that is only likely is told: no untraced object but the interpreter's
// could have been given the address.
void flk_judge_set(bool passes, bool suspects);

typedef enum flk_judged {
    FLK_JUDGED_FOREIGN,  // of a block that was never recorded: legal
    FLK_JUDGED_PASSES,   // misuse was told; the call is passed on
    FLK_JUDGED_REFUSED,  // misuse was told; the call is not passed on
} flk_judged;

// Whether the release of an address without a record may be misuse. Most
// releases by untraced objects are of blocks that never were recorded.
static FLK_HOT bool flk_judge_may_be_misuse(uintptr_t address,
                                            const flk_stub_entry *entry) {
    FLK_ASSERT(address != 0);
    if (flk_freed_may_be(address) || flk_recent_may_hold(address))
        return true;
    return atomic_load_explicit(&entry->via, memory_order_relaxed) ==
                   FLK_VIA_UNTRACED
               ? flk_proof_is_strange(address)
               : !flk_proof_is_plain(address);
}
flk_judged flk_judge_suspect(uintptr_t address, uint32_t stub);

// Judges the release or resize of an address without a record.
static FLK_HOT flk_judged flk_judge_release(uintptr_t address,
                                            const flk_stub_entry *entry) {
    return FLK_LIKELY(!flk_judge_may_be_misuse(address, entry))
               ? FLK_JUDGED_FOREIGN
               : flk_judge_suspect(address, flk_stub_table_number(entry));
}
#else
static inline void flk_judge_set(bool passes, bool suspects) {
    (void)passes, (void)suspects;
}
#endif
#endif

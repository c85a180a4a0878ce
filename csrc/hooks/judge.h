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

// Judges the release or resize of an address without a record.
flk_judged flk_judge_release(uintptr_t address, uint32_t stub);
#else
static inline void flk_judge_set(bool passes, bool suspects) {
    (void)passes, (void)suspects;
}
#endif
#endif

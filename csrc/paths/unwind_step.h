// unwind_step.h - one step from a function to its caller, by a rule.     SPDX-License-Identifier: MIT
// Keeps:   nothing.
// Cost:    inline; two or three loads.
// Callers: the thread whose stack is walked (paths/unwind.c, paths/call_tree_cache.c).
// Invariant: a step by the rule of the present address, from the registers of a frame, gives the registers of its
//            caller. It reads only the words of the stack that the rule names.
#ifndef FLK_UNWIND_STEP_H
#define FLK_UNWIND_STEP_H

#include "paths/unwind.h"

#ifdef FLK_HAS_ELF
// The words read here belong to the frames of other functions, which a memory
// checker may have marked as inaccessible.
#define FLK_READS_STACKS __attribute__((no_sanitize("address", "thread")))

static FLK_HOT FLK_READS_STACKS uintptr_t flk_step_word(uintptr_t address) {
    return *(const volatile uintptr_t *)address;
}

// The address of a saved word.
static FLK_HOT uintptr_t flk_step_place(const flk_registers *at, uintptr_t cfa,
                                        uint8_t from, int32_t offset) {
    FLK_ASSERT(from != FLK_CFI_SAME);
    uintptr_t start = from == FLK_CFI_CFA  ? cfa
                      : from == FLK_CFI_SP ? at->sp
                                           : at->fp;
    return start + (uintptr_t)(intptr_t)offset;
}

// Removes the signature of a return address (pointer authentication).
static FLK_HOT uintptr_t flk_step_unsigned(uintptr_t address) {
#if defined(__aarch64__)
    register uintptr_t link __asm__("x30") = address;
    __asm__("hint #7" : "+r"(link));  // xpaclri
    return link;
#else
    return address;
#endif
}

static FLK_HOT FLK_READS_STACKS uintptr_t
flk_step_cfa(const flk_cfi_rule *how, const flk_registers *at) {
    FLK_ASSERT(how->cfa_from == FLK_CFI_SP || how->cfa_from == FLK_CFI_FP);
    uintptr_t from = how->cfa_from == FLK_CFI_SP ? at->sp : at->fp;
    uintptr_t cfa = from + (uintptr_t)(intptr_t)how->cfa_offset;
    return FLK_UNLIKELY(how->flags & FLK_CFI_LOADED) ? flk_step_word(cfa) : cfa;
}

// Replaces the registers of a frame by those of its caller.
static FLK_HOT FLK_READS_STACKS void flk_step(const flk_cfi_rule *how,
                                              flk_registers *at) {
    uintptr_t cfa = flk_step_cfa(how, at);
    uintptr_t pc = flk_step_word(
        flk_step_place(at, cfa, how->return_from, how->return_offset));
    if (how->fp_from != FLK_CFI_SAME)
        at->fp = flk_step_word(
            flk_step_place(at, cfa, how->fp_from, how->fp_offset));
    at->pc =
        FLK_UNLIKELY(how->flags & FLK_CFI_SIGNED) ? flk_step_unsigned(pc) : pc;
    at->sp = cfa;
}

// The tables of an object may be wrong, so a rule is checked when it is used for
// the first time on a stack: only memory between the stack pointer and `limit`
// may be read. The frame below a signal handler may be on another stack.
static inline bool flk_step_is_sound(const flk_cfi_rule *how,
                                     const flk_registers *at, uintptr_t limit) {
    FLK_ASSERT(how->cfa_from == FLK_CFI_SP || how->cfa_from == FLK_CFI_FP);
    uintptr_t from = flk_step_place(at, 0, how->cfa_from, how->cfa_offset);
    if (how->flags & FLK_CFI_LOADED &&
        (from < at->sp || from >= limit || from % sizeof from))
        return false;
    uintptr_t cfa = flk_step_cfa(how, at);
    if (cfa % sizeof cfa)
        return false;
    if (how->flags & FLK_CFI_SIGNAL)
        return true;
    uintptr_t back =
        flk_step_place(at, cfa, how->return_from, how->return_offset);
    uintptr_t saved =
        how->fp_from == FLK_CFI_SAME
            ? back
            : flk_step_place(at, cfa, how->fp_from, how->fp_offset);
    return cfa > at->sp && cfa <= limit && back >= at->sp && back < cfa &&
           saved >= at->sp && saved < cfa;
}
#endif
#endif

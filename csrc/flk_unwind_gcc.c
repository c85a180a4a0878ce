// flk_unwind_gcc.c - through _Unwind_Backtrace. Contract: flk_unwind_gcc.h.  SPDX-License-Identifier: MIT
#include "flk_unwind_gcc.h"

#include "flk_platform.h"

#ifdef FLK_HAS_ELF
#include <unwind.h>

typedef struct walk {
    flk_unwind_visitor visit;
    void *context;
} walk;

static _Unwind_Reason_Code take(struct _Unwind_Context *frame, void *context) {
    const walk *w = context;
    int was_interrupted = 0;
    uintptr_t address = (uintptr_t)_Unwind_GetIPInfo(frame, &was_interrupted);
    if (!address)
        return _URC_END_OF_STACK;
    return w->visit(address - !was_interrupted, w->context)
               ? _URC_NO_REASON
               : _URC_END_OF_STACK;
}

void flk_unwind_gcc(flk_unwind_visitor visit, void *context) {
    walk w = {visit, context};
    _Unwind_Backtrace(take, &w);
}

static bool go_on(uintptr_t address, void *context) {
    (void)address, (void)context;
    return true;
}

void flk_unwind_gcc_warm_up(void) { flk_unwind_gcc(go_on, NULL); }
#endif

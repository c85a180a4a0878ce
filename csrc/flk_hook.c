// flk_hook.c - allocation and release. Contract: flk_hook.h.                 SPDX-License-Identifier: MIT
#include "flk_hook.h"

#ifdef FLK_HAS_ELF
#include "flk_record.h"
#include "flk_stub.h"

// --- allocation --------------------------------------------------------
void flk_stub_made(uintptr_t block, uint64_t size_bytes, uint16_t type,
                   uint32_t site) {
    flk_marks *marks = flk_thread_marks();
    if (FLK_UNLIKELY(marks->on_behalf == type && !marks->lends_all)) {
        flk_lent_note(marks, block, size_bytes);
        return;
    }
    // An operator new that is asked for, and whose malloc is asked for too,
    // made one block and not two: the outer one names it.
    if (FLK_UNLIKELY(flk_stub_is_asked(site))) {
        flk_record inner;
        flk_tracker_on_free(FLK_LAYER_HEAP, block, 0, &inner);
    }
    flk_record_made(FLK_LAYER_HEAP, block, size_bytes, type);
}

uintptr_t flk_hook_allocate(uintptr_t a, uintptr_t b, uintptr_t c,
                            uint32_t site, const void *caller) {
    flk_function_of_3 original = (flk_function_of_3)flk_stub_original(site);
    if (FLK_LIKELY(flk_stub_state() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_thread_marks();
    uint16_t type = flk_stub_type_asked(site, caller, marks);
    if (!type)
        return original(a, b, c);
    // A definer that stands on another one is recorded once. The original
    // may throw: then nothing here needs to be undone.
    uint16_t on_behalf = marks->on_behalf;
    marks->on_behalf = 0;
    uintptr_t block = original(a, b, c);
    marks->on_behalf = on_behalf;
    if (FLK_LIKELY(block))
        flk_stub_made(block, flk_stub_size(site, a, b, c), type, site);
    return block;
}

uintptr_t flk_hook_place(uintptr_t a, uintptr_t b, uintptr_t c,
                         uint32_t site, const void *caller) {
    flk_function_of_3 original = (flk_function_of_3)flk_stub_original(site);
    if (FLK_LIKELY(flk_stub_state() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_thread_marks();
    uint16_t type = flk_stub_type_asked(site, caller, marks);
    uint16_t on_behalf = marks->on_behalf;
    marks->on_behalf = 0;
    uintptr_t error = original(a, b, c);
    marks->on_behalf = on_behalf;
    if (type && (int)error == 0 && *(uintptr_t *)a)
        flk_stub_made(*(uintptr_t *)a, c, type, site);
    return error;
}

// --- release -----------------------------------------------------------
uintptr_t flk_hook_release(uintptr_t a, uintptr_t b, uintptr_t c,
                           uint32_t site) {
    flk_function_of_3 original = (flk_function_of_3)flk_stub_original(site);
    flk_marks *marks = flk_thread_marks();
    // delete[] calls delete calls free: the outermost has told.
    if (FLK_LIKELY(flk_stub_state() == FLK_HOOKS_OFF) || !a ||
        marks->releasing == a)
        return original(a, b, c);
    if (FLK_LIKELY(!marks->on_behalf) || !flk_lent_forget(marks, a))
        flk_record_gone(FLK_LAYER_HEAP, a, flk_stub_type(site));
    uintptr_t outer = marks->releasing;
    marks->releasing = a;
    uintptr_t result = original(a, b, c);
    marks->releasing = outer;
    return result;
}
#endif

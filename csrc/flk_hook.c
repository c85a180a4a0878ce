// flk_hook.c - allocation and release. Contract: flk_hook.h.                 SPDX-License-Identifier: MIT
#include "flk_hook.h"

#ifdef FLK_HAS_ELF
#include "flk_record_hot.h"
#include "flk_stub.h"

// --- allocation --------------------------------------------------------
// An operator new that is asked for, and whose malloc is asked for too, made
// one block and not two: the outer one names it.
static FLK_NOINLINE void forget_inner(uintptr_t block) {
    flk_record inner;
    flk_tracker_on_free(FLK_LAYER_HEAP, block, 0, &inner);
}

static FLK_HOT void made(flk_marks *marks, uintptr_t block,
                         uint64_t size_bytes, uint16_t type, uint32_t site) {
    if (FLK_UNLIKELY(FLK_STUB_GET(site, is_asked)))
        forget_inner(block);
    flk_record_made_hot(marks, FLK_LAYER_HEAP, block, size_bytes, type);
}

void flk_stub_made(uintptr_t block, uint64_t size_bytes, uint16_t type,
                   uint32_t site) {
    flk_marks *marks = flk_thread_marks();
    if (marks->on_behalf == type && !marks->lends_all)
        flk_lent_note(marks, block, size_bytes);
    else
        made(marks, block, size_bytes, type, site);
}

// A definer that stands on another one is recorded once. The original may
// throw: then nothing here needs to be undone.
static FLK_NOINLINE uintptr_t allocate_on_behalf(uintptr_t a, uintptr_t b,
                                                 uintptr_t c, uint32_t site,
                                                 uint16_t type) {
    flk_function_of_3 original = (flk_function_of_3)flk_stub_original(site);
    flk_marks *marks = flk_thread_marks();
    uint16_t on_behalf = marks->on_behalf;
    marks->on_behalf = 0;
    uintptr_t block = original(a, b, c);
    marks->on_behalf = on_behalf;
    if (block)
        flk_stub_made(block, flk_stub_size(site, a, b, c), type, site);
    return block;
}

uintptr_t flk_hook_allocate(uintptr_t a, uintptr_t b, uintptr_t c,
                            uint32_t site, const void *caller) {
    flk_function_of_3 original = (flk_function_of_3)flk_stub_original(site);
    if (FLK_UNLIKELY(flk_stub_state() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_thread_marks();
    uint16_t type = flk_stub_type_asked(site, caller, marks);
    if (!type)
        return original(a, b, c);
    if (FLK_UNLIKELY(marks->on_behalf))
        return allocate_on_behalf(a, b, c, site, type);
    uintptr_t block = original(a, b, c);
    if (FLK_LIKELY(block))
        made(marks, block, flk_stub_size(site, a, b, c), type, site);
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
// delete[] calls delete calls free, and a definer's free that of the one it
// stands on: the outermost tells.
static FLK_HOT void tell(flk_marks *marks, uintptr_t a, uint32_t site) {
    if (FLK_LIKELY(!marks->on_behalf) || !flk_lent_forget(marks, a))
        flk_record_gone_hot(marks, FLK_LAYER_HEAP, a, flk_stub_type(site));
}

uintptr_t flk_hook_free(uintptr_t a, uintptr_t b, uintptr_t c,
                        uint32_t site) {
    flk_marks *marks = flk_thread_marks();
    if (FLK_UNLIKELY(!atomic_load_explicit(&flk_stub_now.has_one_free,
                                           memory_order_relaxed)))
        return flk_hook_release(a, b, c, site);
    if (FLK_LIKELY(a && marks->releasing != a))
        tell(marks, a, site);
    return ((flk_function_of_3)flk_stub_original(site))(a, b, c);
}

uintptr_t flk_hook_release(uintptr_t a, uintptr_t b, uintptr_t c,
                           uint32_t site) {
    flk_function_of_3 original = (flk_function_of_3)flk_stub_original(site);
    flk_marks *marks = flk_thread_marks();
    if (FLK_LIKELY(flk_stub_is_off()) || !a || marks->releasing == a)
        return original(a, b, c);
    tell(marks, a, site);
    uintptr_t outer = marks->releasing;
    marks->releasing = a;
    uintptr_t result = original(a, b, c);
    marks->releasing = outer;
    return result;
}
#endif

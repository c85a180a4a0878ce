// flk_hooklend.c - functions of the C library whose result is the caller's to free.  SPDX-License-Identifier: MIT
// Contract: flk_hook.h, flk_stub.h. strdup's block is made by a malloc call of the C library, as are buffers of its
// streams: what it makes on the way is noted, and the one it hands out is recorded.
#include "flk_hook.h"

#ifdef FLK_HAS_ELF
#include "flk_record.h"
#include "flk_stub.h"

void flk_lent_note(flk_marks *marks, uintptr_t block, uint64_t size_bytes) {
    uint32_t i = marks->lent_count++ % FLK_LENT_MAX;
    marks->lent[i].address = block;
    marks->lent[i].size_bytes = size_bytes;
}

bool flk_lent_forget(flk_marks *marks, uintptr_t block) {
    for (uint32_t i = 0; i < FLK_LENT_MAX && i < marks->lent_count; i++)
        if (marks->lent[i].address == block) {
            marks->lent[i].address = 0;
            return true;
        }
    return false;
}

// A buffer of the caller's own is none of them, and stays as it is.
static void record_lent(const flk_marks *marks, uintptr_t block,
                        uint16_t type) {
    for (uint32_t i = 0; i < FLK_LENT_MAX && i < marks->lent_count; i++)
        if (block && marks->lent[i].address == block) {
            flk_record_made(FLK_LAYER_HEAP, block, marks->lent[i].size_bytes,
                            type);
            return;
        }
}

uintptr_t flk_hook_lend(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                        uint32_t site, const void *caller) {
    flk_function_of_4 original = (flk_function_of_4)flk_stub_original(site);
    if (FLK_LIKELY(flk_stub_state() != FLK_HOOKS_ON))
        return original(a, b, c, d);
    flk_marks *marks = flk_thread_marks();
    uint16_t type = flk_stub_type_asked(site, caller, marks);
    if (!type || marks->on_behalf)
        return original(a, b, c, d);
    flk_sizes where = flk_hook_info[flk_stub_function(site)].sizes;
    marks->on_behalf = type;
    marks->lends_all = where == FLK_SIZES_ALL;
    marks->lent_count = 0;
    uintptr_t result = original(a, b, c, d);
    marks->on_behalf = 0;
    if (where == FLK_SIZES_RETURNED)
        record_lent(marks, result, type);
    else if (where == FLK_SIZES_POINTED && a)  // getline: also at the end
        record_lent(marks, *(uintptr_t *)a, type);
    marks->lent_count = 0;
    return result;
}
#endif

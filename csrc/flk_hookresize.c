// flk_hookresize.c - realloc and reallocarray. Contract: flk_hook.h.         SPDX-License-Identifier: MIT
#include "flk_hook.h"

#ifdef FLK_HAS_ELF
#include <errno.h>

#include "flk_record.h"
#include "flk_sample.h"
#include "flk_stub.h"

// What the original does below this call is part of it.
static uintptr_t call_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t site) {
    flk_marks *marks = flk_thread_marks();
    uintptr_t releasing = marks->releasing;
    uint16_t on_behalf = marks->on_behalf;
    marks->releasing = a;
    marks->on_behalf = 0;
    uintptr_t moved = ((flk_function_of_3)flk_stub_original(site))(a, b, c);
    marks->releasing = releasing;
    marks->on_behalf = on_behalf;
    if (moved && on_behalf)
        flk_lent_forget(marks, a);
    return moved;
}

// With a size of zero the block is freed here, resized there, and NULL may
// mean either that or a failure: only errno tells.
static uintptr_t resize_to_nothing(uintptr_t a, uintptr_t b, uintptr_t c,
                                   uint32_t site) {
    flk_record record;
    if (!flk_record_moves(FLK_LAYER_HEAP, a, flk_stub_type(site), &record))
        return call_resize(a, b, c, site);
    flk_tracker_move_cancel(FLK_LAYER_HEAP, a, &record);
    flk_tracker_on_free(FLK_LAYER_HEAP, a, 0, &record);
    int saved = errno;
    errno = 0;
    uintptr_t moved = call_resize(a, b, c, site);
    bool has_failed = !moved && errno == ENOMEM;
    if (errno == 0)
        errno = saved;
    if (has_failed) {
        flk_record_back(FLK_LAYER_HEAP, a, &record);
    } else if (moved) {
        record.size_bytes = 0;
        flk_record_back(FLK_LAYER_HEAP, moved, &record);
    }
    return moved;
}

static uintptr_t resize_in_fork(uintptr_t a, uintptr_t b, uintptr_t c,
                                uint32_t site, uint16_t type) {
    uintptr_t moved = call_resize(a, b, c, site);
    if (moved || flk_stub_size(site, a, b, c) == 0)
        flk_record_gone(FLK_LAYER_HEAP, a, flk_stub_type(site));
    if (moved && type)
        flk_record_made(FLK_LAYER_HEAP, moved, flk_stub_size(site, a, b, c), type);
    return moved;
}

// A sample is taken anew, by the new size alone: so a block that grows step by
// step is not likelier to be recorded than one that was made at once.
static void end_move(uintptr_t from, const flk_record *record, uintptr_t to,
                     uint64_t size_bytes) {
    flk_record gone;
    flk_tracker_move_end(FLK_LAYER_HEAP, from, record, to, size_bytes);
    if (!flk_sample_takes(flk_thread_marks(), size_bytes))
        flk_tracker_on_free(FLK_LAYER_HEAP, to, 0, &gone);
}

static uintptr_t resize(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t site,
                        uint16_t type) {
    uint64_t size_bytes = flk_stub_size(site, a, b, c);
    if (size_bytes == 0)
        return resize_to_nothing(a, b, c, site);
    flk_record record;
    bool is_known = flk_record_moves(FLK_LAYER_HEAP, a, flk_stub_type(site),
                                     &record);
    uintptr_t moved = call_resize(a, b, c, site);
    if (is_known && moved)
        end_move(a, &record, moved, size_bytes);
    else if (is_known)
        flk_tracker_move_cancel(FLK_LAYER_HEAP, a, &record);
    else if (moved && type)
        flk_stub_made(moved, size_bytes, type, site);
    if (is_known)
        flk_record_settle(FLK_LAYER_HEAP, moved ? moved : a, record.type);
    return moved;
}

uintptr_t flk_hook_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                          uint32_t site, const void *caller) {
    if (!a)
        return flk_hook_allocate(a, b, c, site, caller);
    flk_marks *marks = flk_thread_marks();
    flk_hooks_state state = flk_stub_state();
    if (FLK_LIKELY(state <= FLK_HOOKS_IDLE) || marks->releasing == a)
        return ((flk_function_of_3)flk_stub_original(site))(a, b, c);
    uint16_t type = state == FLK_HOOKS_ON
                        ? flk_stub_type_asked(site, caller, marks)
                        : 0;
    if (FLK_UNLIKELY(marks->is_forking))
        return resize_in_fork(a, b, c, site, type);
    if (FLK_UNLIKELY(flk_thread_is_inside())) {
        flk_record_count(FLK_HOOK_REENTERED);
        return call_resize(a, b, c, site);
    }
    return resize(a, b, c, site, type);
}
#endif

// bodies.c - allocation and release. Contract: hooks/bodies.h.                 SPDX-License-Identifier: MIT
#include "hooks/bodies.h"

#include <errno.h>

#ifdef FLK_HAS_ELF
#include "hooks/callers.h"
#include "hooks/late_objects.h"
#include "hooks/report_hot.h"
#include "hooks/sample.h"

// --- is the caller traced? -----------------------------------------------
static bool is_caller_traced(const void *caller) {
    flk_late_objects_notice();
    flk_caller found = flk_callers_find((uintptr_t)caller);
    if (FLK_UNLIKELY(found == FLK_CALLER_UNKNOWN))
        flk_report_count(FLK_HOOK_UNKNOWN_CALLERS);
    return found == FLK_CALLER_TRACED;
}

uint16_t flk_bodies_type_elsewhere(uint32_t site, const void *caller,
                                   const flk_marks *marks) {
    if (marks->on_behalf || flk_stubs_via(site) == FLK_VIA_UNTRACED)
        return marks->on_behalf;
    return is_caller_traced(caller) ? flk_stubs_type(site) : 0;
}

// --- blocks that the C library makes for a caller ------------------------
// strdup's block is made by a malloc call of the C library, as are buffers of its
// streams: what it makes on the way is noted, and the one it hands out is recorded.
static void note_returned(flk_marks *marks, uintptr_t block,
                          uint64_t size_bytes) {
    uint32_t i = marks->returned_count++ % FLK_LENT_MAX;
    marks->lent[i].address = block;
    marks->lent[i].size_bytes = size_bytes;
}

static bool forget_returned(flk_marks *marks, uintptr_t block) {
    for (uint32_t i = 0; i < FLK_LENT_MAX && i < marks->returned_count; i++)
        if (marks->lent[i].address == block) {
            marks->lent[i].address = 0;
            return true;
        }
    return false;
}

// --- allocation --------------------------------------------------------
// An operator new that is asked for, and whose malloc is asked for too, made
// one block and not two: the outer one names it.
static FLK_NOINLINE void forget_inner(uintptr_t block) {
    flk_record inner;
    flk_tracker_on_free(FLK_LAYER_HEAP, block, 0, &inner);
}

static FLK_HOT void made(flk_marks *marks, uintptr_t block, uint64_t size_bytes,
                         uint16_t type, uint32_t site) {
    if (FLK_UNLIKELY(FLK_STUB_GET(site, is_traced)))
        forget_inner(block);
    flk_report_made_hot(marks, FLK_LAYER_HEAP, block, size_bytes, type);
}

static void note_or_made(uintptr_t block, uint64_t size_bytes, uint16_t type,
                         uint32_t site) {
    flk_marks *marks = flk_platform_thread_marks();
    if (marks->on_behalf == type && !marks->returns_all)
        note_returned(marks, block, size_bytes);
    else
        made(marks, block, size_bytes, type, site);
}

// A provider that stands on another one is recorded once. The original may
// throw: then nothing here needs to be undone.
static FLK_NOINLINE uintptr_t allocate_on_behalf(uintptr_t a, uintptr_t b,
                                                 uintptr_t c, uint32_t site,
                                                 uint16_t type) {
    flk_function_of_3 original = (flk_function_of_3)flk_stubs_original(site);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t on_behalf = marks->on_behalf;
    marks->on_behalf = 0;
    uintptr_t block = original(a, b, c);
    marks->on_behalf = on_behalf;
    if (block)
        note_or_made(block, flk_stubs_size(site, a, b, c), type, site);
    return block;
}

uintptr_t flk_bodies_allocate(uintptr_t a, uintptr_t b, uintptr_t c,
                              uint32_t site, const void *caller) {
    flk_function_of_3 original = (flk_function_of_3)flk_stubs_original(site);
    if (FLK_UNLIKELY(flk_stubs_state() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t type = flk_bodies_type_traced(site, caller, marks);
    if (!type)
        return original(a, b, c);
    if (FLK_UNLIKELY(marks->on_behalf))
        return allocate_on_behalf(a, b, c, site, type);
    uintptr_t block = original(a, b, c);
    if (FLK_LIKELY(block))
        made(marks, block, flk_stubs_size(site, a, b, c), type, site);
    return block;
}

uintptr_t flk_bodies_place(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t site,
                           const void *caller) {
    flk_function_of_3 original = (flk_function_of_3)flk_stubs_original(site);
    if (FLK_LIKELY(flk_stubs_state() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t type = flk_bodies_type_traced(site, caller, marks);
    uint16_t on_behalf = marks->on_behalf;
    marks->on_behalf = 0;
    uintptr_t error = original(a, b, c);
    marks->on_behalf = on_behalf;
    if (type && (int)error == 0 && *(uintptr_t *)a)
        note_or_made(*(uintptr_t *)a, c, type, site);
    return error;
}

// --- release -----------------------------------------------------------
// delete[] calls delete calls free, and a provider's free that of the one it
// stands on: the outermost tells.
static FLK_HOT void tell(flk_marks *marks, uintptr_t a, uint32_t site) {
    if (FLK_LIKELY(!marks->on_behalf) || !forget_returned(marks, a))
        flk_report_gone_hot(marks, FLK_LAYER_HEAP, a, flk_stubs_type(site));
}

uintptr_t flk_bodies_free(uintptr_t a, uintptr_t b, uintptr_t c,
                          uint32_t site) {
    flk_marks *marks = flk_platform_thread_marks();
    if (FLK_UNLIKELY(!atomic_load_explicit(&flk_stubs_now.has_one_free,
                                           memory_order_relaxed)))
        return flk_bodies_release(a, b, c, site);
    if (FLK_LIKELY(a && marks->releasing != a))
        tell(marks, a, site);
    return ((flk_function_of_3)flk_stubs_original(site))(a, b, c);
}

uintptr_t flk_bodies_release(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t site) {
    flk_function_of_3 original = (flk_function_of_3)flk_stubs_original(site);
    flk_marks *marks = flk_platform_thread_marks();
    if (FLK_LIKELY(flk_stubs_is_off()) || !a || marks->releasing == a)
        return original(a, b, c);
    tell(marks, a, site);
    uintptr_t outer = marks->releasing;
    marks->releasing = a;
    uintptr_t result = original(a, b, c);
    marks->releasing = outer;
    return result;
}

// --- realloc and reallocarray -------------------------------------------
// What the original does below this call is part of it.
static uintptr_t call_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t site) {
    flk_marks *marks = flk_platform_thread_marks();
    uintptr_t releasing = marks->releasing;
    uint16_t on_behalf = marks->on_behalf;
    marks->releasing = a;
    marks->on_behalf = 0;
    uintptr_t moved = ((flk_function_of_3)flk_stubs_original(site))(a, b, c);
    marks->releasing = releasing;
    marks->on_behalf = on_behalf;
    if (moved && on_behalf)
        forget_returned(marks, a);
    return moved;
}

// With a size of zero the block is freed here, resized there, and NULL may
// mean either that or a failure: only errno tells.
static uintptr_t resize_to_nothing(uintptr_t a, uintptr_t b, uintptr_t c,
                                   uint32_t site) {
    flk_record record;
    if (!flk_report_moves(FLK_LAYER_HEAP, a, flk_stubs_type(site), &record))
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
        flk_report_back(FLK_LAYER_HEAP, a, &record);
    } else if (moved) {
        record.size_bytes = 0;
        flk_report_back(FLK_LAYER_HEAP, moved, &record);
    }
    return moved;
}

static uintptr_t resize_in_fork(uintptr_t a, uintptr_t b, uintptr_t c,
                                uint32_t site, uint16_t type) {
    uintptr_t moved = call_resize(a, b, c, site);
    if (moved || flk_stubs_size(site, a, b, c) == 0)
        flk_report_gone(FLK_LAYER_HEAP, a, flk_stubs_type(site));
    if (moved && type)
        flk_report_made(FLK_LAYER_HEAP, moved, flk_stubs_size(site, a, b, c),
                        type);
    return moved;
}

// A sample is taken anew, by the new size alone: so a block that grows step by
// step is not likelier to be recorded than one that was made at once.
static void end_move(uintptr_t from, const flk_record *record, uintptr_t to,
                     uint64_t size_bytes) {
    flk_record gone;
    flk_tracker_move_end(FLK_LAYER_HEAP, from, record, to, size_bytes);
    if (!flk_sample_takes(flk_platform_thread_marks(), size_bytes))
        flk_tracker_on_free(FLK_LAYER_HEAP, to, 0, &gone);
}

static uintptr_t resize(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t site,
                        uint16_t type) {
    uint64_t size_bytes = flk_stubs_size(site, a, b, c);
    if (size_bytes == 0)
        return resize_to_nothing(a, b, c, site);
    flk_record record;
    bool is_known =
        flk_report_moves(FLK_LAYER_HEAP, a, flk_stubs_type(site), &record);
    uintptr_t moved = call_resize(a, b, c, site);
    if (is_known && moved)
        end_move(a, &record, moved, size_bytes);
    else if (is_known)
        flk_tracker_move_cancel(FLK_LAYER_HEAP, a, &record);
    else if (moved && type)
        note_or_made(moved, size_bytes, type, site);
    if (is_known)
        flk_report_settle(FLK_LAYER_HEAP, moved ? moved : a, record.type);
    return moved;
}

uintptr_t flk_bodies_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                            uint32_t site, const void *caller) {
    if (!a)
        return flk_bodies_allocate(a, b, c, site, caller);
    flk_marks *marks = flk_platform_thread_marks();
    flk_hooks_state state = flk_stubs_state();
    if (FLK_LIKELY(state <= FLK_HOOKS_IDLE) || marks->releasing == a)
        return ((flk_function_of_3)flk_stubs_original(site))(a, b, c);
    uint16_t type =
        state == FLK_HOOKS_ON ? flk_bodies_type_traced(site, caller, marks) : 0;
    if (FLK_UNLIKELY(marks->is_forking))
        return resize_in_fork(a, b, c, site, type);
    if (FLK_UNLIKELY(flk_thread_is_inside())) {
        flk_report_count(FLK_HOOK_REENTERED);
        return call_resize(a, b, c, site);
    }
    return resize(a, b, c, site, type);
}

// --- what the C library returns to a caller -----------------------------
// A buffer of the caller's own is none of them, and stays as it is.
static void record_lent(const flk_marks *marks, uintptr_t block,
                        uint16_t type) {
    for (uint32_t i = 0; i < FLK_LENT_MAX && i < marks->returned_count; i++)
        if (block && marks->lent[i].address == block) {
            flk_report_made(FLK_LAYER_HEAP, block, marks->lent[i].size_bytes,
                            type);
            return;
        }
}

uintptr_t flk_bodies_return(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                            uint32_t site, const void *caller) {
    flk_function_of_4 original = (flk_function_of_4)flk_stubs_original(site);
    if (FLK_LIKELY(flk_stubs_state() != FLK_HOOKS_ON))
        return original(a, b, c, d);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t type = flk_bodies_type_traced(site, caller, marks);
    if (!type || marks->on_behalf)
        return original(a, b, c, d);
    flk_sizes where = flk_functions_info[flk_stubs_function(site)].sizes;
    marks->on_behalf = type;
    marks->returns_all = where == FLK_SIZES_ALL;
    marks->returned_count = 0;
    uintptr_t result = original(a, b, c, d);
    marks->on_behalf = 0;
    if (where == FLK_SIZES_RETURNED)
        record_lent(marks, result, type);
    else if (where == FLK_SIZES_POINTED && a)  // getline: also at the end
        record_lent(marks, *(uintptr_t *)a, type);
    marks->returned_count = 0;
    return result;
}
#endif

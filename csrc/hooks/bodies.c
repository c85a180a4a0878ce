// bodies.c - allocation, release, realloc. Contract: hooks/bodies.h.  SPDX-License-Identifier: MIT
#include "hooks/bodies.h"

#include <errno.h>

#ifdef FLK_HAS_ELF
#include "hooks/behalf.h"
#include "hooks/judge.h"
#include "hooks/pause.h"
#include "hooks/report_hot.h"
#include "hooks/returned.h"
#include "hooks/sample.h"

// --- is the call recorded? -----------------------------------------------
bool flk_bodies_is_traced(uint32_t stub, const void *caller) {
    return flk_stub_table_via(stub) == FLK_VIA_TRACED ||
           flk_behalf_is_recorded(stub, caller);
}

// Whether the call is a part of a provider's function that is running, and that
// was marked (call_marked).
static FLK_NOINLINE bool is_inner(const void *caller, flk_marks *marks,
                                  uintptr_t here) {
    FLK_ASSERT(marks->allocating_frame != 0);
    if (flk_returned_is_left_behind(marks->allocating_frame, here))
        marks->allocating_frame = 0;
    return marks->allocating_frame && flk_behalf_is_inner(caller);
}

// Not by a slot of a traced object: a call that the C library makes to build
// a result for a traced caller is recorded, or noted, under that result's
// type. A call of the traced caller's own (in a callback of scandir) is not.
static FLK_NOINLINE uint16_t type_elsewhere(uint32_t stub, const void *caller,
                                            flk_marks *marks, uintptr_t here) {
    flk_via via = flk_stub_table_via(stub);
    if (marks->allocating_frame && is_inner(caller, marks, here))
        return 0;
    if (marks->returned.frame)
        flk_returned_drop_left_behind(marks, here);
    if (marks->returned.type && via == FLK_VIA_RUNTIME &&
        flk_stub_table_is_in_provider((uintptr_t)caller,
                                      FLK_PROVIDER_IS_C_LIBRARY))
        return marks->returned.type;
    if (flk_bodies_is_traced(stub, caller))
        return flk_stub_table_type(stub);
    return via == FLK_VIA_RUNTIME ? 0 : marks->returned.type;
}

// The type to record an allocation under; 0: it is not recorded.
static FLK_HOT uint16_t type_of_call(uint32_t stub, const void *caller,
                                     flk_marks *marks, uintptr_t here) {
    return FLK_LIKELY(flk_stub_table_via(stub) == FLK_VIA_TRACED &&
                      !marks->allocating_frame)
               ? flk_stub_table_type(stub)
               : type_elsewhere(stub, caller, marks, here);
}

// --- allocation --------------------------------------------------------
// An address that was noted may come back in a block of the caller's own.
static void note_or_made(uint32_t session, uintptr_t block, uint64_t size_bytes,
                         uint16_t type) {
    flk_marks *marks = flk_platform_thread_marks();
    flk_returned *returned = &marks->returned;
    FLK_ASSERT(block != 0 && type != 0);
    if (returned->note_count)
        flk_returned_forget(returned, block);
    if (returned->type == type)
        flk_returned_note(returned, block, size_bytes);
    else
        flk_report_made_hot(marks, session, FLK_LAYER_HEAP, block, size_bytes,
                            type);
}

// While the original runs, allocations below it are part of this one: operator
// new of libstdc++ calls malloc, and both are recorded functions. One block,
// named after the outer function. The original may throw std::bad_alloc; then
// the mark is left behind.
static uintptr_t call_marked(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t stub, uintptr_t here) {
    flk_marks *marks = flk_platform_thread_marks();
    uintptr_t outer = marks->allocating_frame;
    uint16_t returned = marks->returned.type;
    bool is_marked = FLK_STUB_GET(stub, flags) & FLK_PROVIDER_CALLS_INNER;
    if (is_marked && !outer)
        marks->allocating_frame = here;
    marks->returned.type = 0;
    uintptr_t result =
        ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    marks->returned.type = returned;
    marks->allocating_frame = outer;
    return result;
}

static FLK_NOINLINE uintptr_t allocate_marked(uintptr_t a, uintptr_t b,
                                              uintptr_t c, uint32_t stub,
                                              uint16_t type, uint32_t session) {
    uintptr_t block = call_marked(a, b, c, stub, FLK_STACK_HERE);
    if (block && type)
        note_or_made(session, block, flk_stub_table_size(stub, a, b, c), type);
    else if (block)
        flk_freed_forget(block);
    return block;
}

// The address was given out again, so its next free is no second one.
static uintptr_t allocate_unrecorded(flk_function_of_3 original, uintptr_t a,
                                     uintptr_t b, uintptr_t c) {
    uintptr_t block = original(a, b, c);
    if (block)
        flk_freed_forget(block);
    return block;
}

uintptr_t flk_bodies_allocate(uintptr_t a, uintptr_t b, uintptr_t c,
                              uint32_t stub, const void *caller) {
    flk_function_of_3 original =
        (flk_function_of_3)flk_stub_table_original(stub);
    uint32_t session = flk_stub_table_session();
    if (FLK_UNLIKELY(flk_stub_table_state() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t type = type_of_call(stub, caller, marks, FLK_STACK_HERE);
    if (FLK_UNLIKELY(FLK_STUB_GET(stub, flags) & FLK_PROVIDER_CALLS_INNER))
        return allocate_marked(a, b, c, stub, type, session);
    if (!type)
        return allocate_unrecorded(original, a, b, c);
    if (FLK_UNLIKELY(marks->returned.type))
        return allocate_marked(a, b, c, stub, type, session);
    uintptr_t block = original(a, b, c);
    if (FLK_LIKELY(block))
        flk_report_made_hot(marks, session, FLK_LAYER_HEAP, block,
                            flk_stub_table_size(stub, a, b, c), type);
    return block;
}

uintptr_t flk_bodies_malloc(uintptr_t size_bytes, const flk_stub_entry *entry,
                            uintptr_t original, uint32_t session) {
    flk_marks *marks = flk_platform_thread_marks();
    FLK_ASSERT(original != 0 && !marks->allocating_frame);
    uintptr_t block = ((flk_function_of_1)original)(size_bytes);
    if (FLK_LIKELY(block))
        flk_report_made_hot(
            marks, session, FLK_LAYER_HEAP, block, size_bytes,
            atomic_load_explicit(&entry->type, memory_order_relaxed));
    return block;
}

// What type_elsewhere finds for such a call, without its questions.
uintptr_t flk_bodies_note(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t stub,
                          const void *caller) {
    flk_returned *returned = &flk_platform_thread_marks()->returned;
    if (FLK_UNLIKELY(
            flk_returned_is_left_behind(returned->frame, FLK_STACK_HERE)))
        return flk_bodies_allocate(a, b, c, stub, caller);
    uint16_t type = returned->type;
    FLK_ASSERT(type != 0);
    returned->type = 0;
    uintptr_t block =
        ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    returned->type = type;
    if (!block)
        return block;
    if (returned->note_count)
        flk_returned_forget(returned, block);
    flk_returned_note(returned, block, flk_stub_table_size(stub, a, b, c));
    return block;
}

// posix_memalign(&block, alignment, size).
uintptr_t flk_bodies_place(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t stub,
                           const void *caller) {
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(flk_stub_table_state() != FLK_HOOKS_ON))
        return ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t type = type_of_call(stub, caller, marks, FLK_STACK_HERE);
    uintptr_t error = call_marked(a, b, c, stub, FLK_STACK_HERE);
    if ((int)error == 0 && *(uintptr_t *)a && type)
        note_or_made(session, *(uintptr_t *)a, c, type);
    else if ((int)error == 0 && *(uintptr_t *)a)
        flk_freed_forget(*(uintptr_t *)a);
    return error;
}

// --- release -----------------------------------------------------------
// delete[] calls delete calls free, and one provider's free may call another
// provider's free: the outermost call is reported.
static FLK_HOT bool is_inner_release(const flk_marks *marks, uintptr_t a,
                                     uintptr_t here) {
    return FLK_UNLIKELY(marks->releasing == a) &&
           !flk_returned_is_left_behind(marks->releasing_frame, here);
}

bool flk_bodies_is_inner_release(const flk_marks *marks, uintptr_t a,
                                 uintptr_t here) {
    return is_inner_release(marks, a, here);
}

// Where a body's stub was called: the stub ends in a jump to the body.
#define RETURNS_TO ((uintptr_t)__builtin_return_address(0))

// In a pause allocations are not seen, so the count would say nothing.
static FLK_NOINLINE bool gone_unrecorded(uintptr_t a,
                                         const flk_stub_entry *entry) {
    flk_judged judged = flk_judge_release(a, entry);
    FLK_ASSERT(a != 0 && judged <= FLK_JUDGED_REFUSED);
    flk_hooks_state state = flk_stub_table_state();
    if (judged == FLK_JUDGED_FOREIGN && state == FLK_HOOKS_PAUSED)
        flk_pause_note(a);
    if (judged == FLK_JUDGED_FOREIGN && state == FLK_HOOKS_ON &&
        !flk_sample_is_on())
        flk_report_count(FLK_HOOK_FOREIGN_FREES);
    return judged != FLK_JUDGED_REFUSED;
}

// False: the release is proven misuse, and is not to be passed on.
static FLK_HOT bool gone(flk_marks *marks, uintptr_t a,
                         const flk_stub_entry *entry, uintptr_t caller) {
    FLK_ASSERT(a != 0);
    uint16_t type = atomic_load_explicit(&entry->type, memory_order_relaxed);
    if (FLK_UNLIKELY(marks->returned.type) &&
        flk_returned_forget(&marks->returned, a))
        return true;
    return FLK_LIKELY(
               flk_report_gone_hot(marks, FLK_LAYER_HEAP, a, type, caller)) ||
           gone_unrecorded(a, entry);
}

static FLK_HOT const flk_stub_entry *entry_of(uint32_t stub) {
    FLK_ASSERT(FLK_STUB_GET(stub, type) != 0);
    return &flk_stub_table_now.entries[stub];
}

bool flk_bodies_gone(uintptr_t a, uint32_t stub, uintptr_t caller) {
    return gone(flk_platform_thread_marks(), a, entry_of(stub), caller);
}

uintptr_t flk_bodies_free(uintptr_t a, const flk_stub_entry *entry,
                          uintptr_t original) {
    FLK_ASSERT(a != 0 && original != 0);
    flk_marks *marks = flk_platform_thread_marks();
    if (FLK_UNLIKELY(!atomic_load_explicit(&flk_stub_table_now.has_plain_free,
                                           memory_order_relaxed))) {
        if (flk_pause_has(a))
            return ((flk_function_of_1)original)(a);
        if (!atomic_load_explicit(&flk_stub_table_now.has_one_free,
                                  memory_order_relaxed))
            return flk_bodies_release(a, 0, 0, flk_stub_table_number(entry));
    }
    if (FLK_LIKELY(!is_inner_release(marks, a, FLK_STACK_HERE)) &&
        FLK_UNLIKELY(!gone(marks, a, entry, RETURNS_TO)))
        return 0;
    return ((flk_function_of_1)original)(a);
}

uintptr_t flk_bodies_release(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t stub) {
    flk_function_of_3 original =
        (flk_function_of_3)flk_stub_table_original(stub);
    flk_marks *marks = flk_platform_thread_marks();
    if (FLK_LIKELY(flk_stub_table_is_off()) || !a ||
        is_inner_release(marks, a, FLK_STACK_HERE))
        return original(a, b, c);
    if (FLK_UNLIKELY(!gone(marks, a, entry_of(stub), RETURNS_TO)))
        return 0;
    uintptr_t outer = marks->releasing, outer_frame = marks->releasing_frame;
    marks->releasing = a;
    marks->releasing_frame = FLK_STACK_HERE;
    uintptr_t result = original(a, b, c);
    marks->releasing = outer;
    marks->releasing_frame = outer_frame;
    return result;
}

// --- realloc and reallocarray -------------------------------------------
// Allocations and releases below the original are part of this call.
static uintptr_t call_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t stub) {
    FLK_ASSERT(a != 0);
    flk_marks *marks = flk_platform_thread_marks();
    uintptr_t releasing = marks->releasing, frame = marks->releasing_frame;
    marks->releasing = a;
    marks->releasing_frame = FLK_STACK_HERE;
    uintptr_t moved = call_marked(a, b, c, stub, FLK_STACK_HERE);
    marks->releasing = releasing;
    marks->releasing_frame = frame;
    if (moved && marks->returned.type)
        flk_returned_forget(&marks->returned, a);
    return moved;
}

// What would free memory that is not allocated fails instead.
static uintptr_t resize_unrecorded(uintptr_t a, uintptr_t b, uintptr_t c,
                                   uint32_t stub) {
    FLK_ASSERT(a != 0);
    if (flk_judge_release(a, entry_of(stub)) != FLK_JUDGED_REFUSED)
        return call_resize(a, b, c, stub);
    errno = ENOMEM;
    return 0;
}

// A size of zero frees the block in some C libraries and resizes it in others.
// NULL then means either "freed" or "failed"; errno tells which.
static uintptr_t resize_to_nothing(uintptr_t a, uintptr_t b, uintptr_t c,
                                   uint32_t stub, uint32_t session,
                                   uintptr_t caller) {
    flk_record record;
    FLK_ASSERT(a != 0 && flk_stub_table_size(stub, a, b, c) == 0);
    if (flk_report_moves(FLK_LAYER_HEAP, a, flk_stub_table_type(stub),
                         &record) == FLK_MOVES_NOT)
        return resize_unrecorded(a, b, c, stub);
    flk_tracker_move_cancel(FLK_LAYER_HEAP, a, &record);
    flk_tracker_on_free(FLK_LAYER_HEAP, a, 0, &record);
    flk_freed_note(a, &record, caller);
    int saved = errno;
    errno = 0;
    uintptr_t moved = call_resize(a, b, c, stub);
    bool has_failed = !moved && errno == ENOMEM;
    if (errno == 0)
        errno = saved;
    if (has_failed || moved == a)
        flk_freed_forget(a);
    if (has_failed) {
        flk_report_back(session, FLK_LAYER_HEAP, a, &record);
    } else if (moved) {
        record.size_bytes = 0;
        flk_report_back(session, FLK_LAYER_HEAP, moved, &record);
    }
    return moved;
}

static uintptr_t resize_in_fork(uintptr_t a, uintptr_t b, uintptr_t c,
                                uint32_t stub, uint16_t type) {
    FLK_ASSERT(flk_platform_thread_marks()->is_forking);
    uintptr_t moved = call_resize(a, b, c, stub);
    if (moved || flk_stub_table_size(stub, a, b, c) == 0)
        flk_report_gone(FLK_LAYER_HEAP, a, flk_stub_table_type(stub));
    if (moved && type)
        flk_report_made(flk_stub_table_session(), FLK_LAYER_HEAP, moved,
                        flk_stub_table_size(stub, a, b, c), type);
    return moved;
}

// A sampled block is drawn again by its new size alone. Otherwise a block that
// grows step by step would be more likely to be recorded than one allocated
// at once.
bool flk_bodies_end_move(uintptr_t from, const flk_record *record, uintptr_t to,
                         uint64_t size_bytes) {
    FLK_ASSERT(to != 0);
    flk_record removed;
    bool is_recorded =
        flk_tracker_move_end(FLK_LAYER_HEAP, from, record, to, size_bytes);
    if (flk_sample_takes(flk_platform_thread_marks(), size_bytes))
        return is_recorded;
    flk_tracker_on_free(FLK_LAYER_HEAP, to, 0, &removed);
    return false;
}

// The block was made by operator new, say, which was told. From now on it is
// one of realloc, so that free() of it is right.
static void retype(uint32_t session, uintptr_t block, uint16_t type) {
    flk_record record;
    FLK_ASSERT(block != 0 && type != 0);
    if (flk_tracker_on_free(FLK_LAYER_HEAP, block, 0, &record) != FLK_TAKEN)
        return;
    record.type = type;
    flk_report_back(session, FLK_LAYER_HEAP, block, &record);
}

// The old address is noted as freed before another thread can be given it, and
// is not if the block did not move.
static uintptr_t resize_recorded(uintptr_t a, uintptr_t b, uintptr_t c,
                                 uint32_t stub, const flk_record *record,
                                 uintptr_t caller) {
    FLK_ASSERT(a != 0 && record->type != 0);
    flk_freed_note(a, record, caller);
    uintptr_t moved = call_resize(a, b, c, stub);
    if (!moved || moved == a)
        flk_freed_forget(a);
    if (moved)
        flk_bodies_end_move(a, record, moved,
                            flk_stub_table_size(stub, a, b, c));
    else
        flk_tracker_move_cancel(FLK_LAYER_HEAP, a, record);
    return moved;
}

static uintptr_t resize(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t stub,
                        uint16_t type, uint32_t session, uintptr_t caller) {
    uint64_t size_bytes = flk_stub_table_size(stub, a, b, c);
    FLK_ASSERT(a != 0);
    if (size_bytes == 0)
        return resize_to_nothing(a, b, c, stub, session, caller);
    flk_record record;
    flk_moves moves =
        flk_report_moves(FLK_LAYER_HEAP, a, flk_stub_table_type(stub), &record);
    uintptr_t moved;
    if (moves == FLK_MOVES_NOT) {
        moved = resize_unrecorded(a, b, c, stub);
        if (moved && type)
            note_or_made(session, moved, size_bytes, type);
        return moved;
    }
    moved = resize_recorded(a, b, c, stub, &record, caller);
    if (moved && moves == FLK_MOVES_WRONGLY)
        retype(session, moved, flk_stub_table_type(stub));
    else
        flk_report_settle(session, FLK_LAYER_HEAP, moved ? moved : a,
                          record.type);
    return moved;
}

uintptr_t flk_bodies_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                            uint32_t stub, const void *caller) {
    if (!a)
        return flk_bodies_allocate(a, b, c, stub, caller);
    flk_marks *marks = flk_platform_thread_marks();
    uint32_t session = flk_stub_table_session();
    flk_hooks_state state = flk_stub_table_state();
    if (FLK_LIKELY(state <= FLK_HOOKS_IDLE) ||
        is_inner_release(marks, a, FLK_STACK_HERE))
        return ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    uint16_t type = state == FLK_HOOKS_ON
                        ? type_of_call(stub, caller, marks, FLK_STACK_HERE)
                        : 0;
    if (FLK_UNLIKELY(marks->is_forking))
        return resize_in_fork(a, b, c, stub, type);
    if (FLK_UNLIKELY(flk_thread_is_inside())) {
        flk_report_count(FLK_HOOK_REENTERED);
        return call_resize(a, b, c, stub);
    }
    return resize(a, b, c, stub, type, session, (uintptr_t)caller);
}
#endif

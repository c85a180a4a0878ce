// bodies.c - allocation, release, realloc, results of the C library. Contract: hooks/bodies.h.  SPDX-License-Identifier: MIT
#include "hooks/bodies.h"

#include <errno.h>

#ifdef FLK_HAS_ELF
#include "hooks/callers.h"
#include "hooks/judge.h"
#include "hooks/report_hot.h"
#include "hooks/sample.h"

// --- marks that were left behind -----------------------------------------
// A function of the C library may be left by longjmp, by a C++ exception or
// by pthread_exit; then the code that clears its mark does not run. Each mark
// keeps the stack pointer before the marked call. A later hook whose caller
// has a stack pointer at or above it cannot be inside that call, so the mark
// is void. (The stack grows towards lower addresses.) On another stack
// (sigaltstack, a coroutine) this says nothing; that the distance is large
// shows such a stack.
#define STACK_HERE ((uintptr_t)__builtin_dwarf_cfa())
enum { SAME_STACK_BYTES = 1 << 24 };

static inline bool is_left_behind(uintptr_t frame, uintptr_t here) {
    return here - frame < SAME_STACK_BYTES;
}

static FLK_NOINLINE void drop_left_behind(flk_marks *marks, uintptr_t here) {
    FLK_ASSERT(here != 0);
    if (is_left_behind(marks->returned.frame, here))
        marks->returned = (flk_returned){.type = 0};
}

// --- is the calling object traced? ---------------------------------------
static FLK_NOINLINE bool is_caller_traced(const void *caller) {
    FLK_ASSERT(caller != NULL);
    flk_caller found = flk_callers_find((uintptr_t)caller);
    if (FLK_UNLIKELY(found == FLK_CALLER_UNKNOWN))
        flk_report_count(FLK_HOOK_UNKNOWN_CALLERS);
    return found == FLK_CALLER_TRACED;
}

bool flk_bodies_is_traced(uint32_t stub, const void *caller) {
    flk_via via = flk_stub_table_via(stub);
    return via == FLK_VIA_TRACED ||
           (via == FLK_VIA_EXPORT && is_caller_traced(caller));
}

// Not by a slot of a traced object: a call that the C library makes to build
// a result for a traced caller is recorded, or noted, under that result's
// type. A call of the traced caller's own (in a callback of scandir) is not.
static FLK_NOINLINE uint16_t type_elsewhere(uint32_t stub, const void *caller,
                                            flk_marks *marks, uintptr_t here) {
    if (marks->returned.frame)
        drop_left_behind(marks, here);
    if (flk_stub_table_via(stub) == FLK_VIA_EXPORT && is_caller_traced(caller))
        return flk_stub_table_type(stub);
    return marks->returned.type;
}

// The type to record an allocation under; 0: it is not recorded.
static FLK_HOT uint16_t type_of_call(uint32_t stub, const void *caller,
                                     flk_marks *marks, uintptr_t here) {
    return FLK_LIKELY(flk_stub_table_via(stub) == FLK_VIA_TRACED)
               ? flk_stub_table_type(stub)
               : type_elsewhere(stub, caller, marks, here);
}

// --- blocks that the C library allocates for a caller --------------------
static void note_returned(flk_returned *returned, uintptr_t block,
                          uint64_t size_bytes) {
    FLK_ASSERT(returned->type != 0 && block != 0);
    uint32_t i = returned->note_count++ % FLK_RETURNED_MAX;
    returned->notes[i].address = block;
    returned->notes[i].size_bytes = size_bytes;
}

static uint32_t noted(const flk_returned *returned) {
    FLK_ASSERT(returned != NULL);
    return returned->note_count < FLK_RETURNED_MAX ? returned->note_count
                                                   : FLK_RETURNED_MAX;
}

static bool forget_returned(flk_returned *returned, uintptr_t block) {
    FLK_ASSERT(block != 0);
    for (uint32_t i = 0; i < noted(returned); i++)
        if (returned->notes[i].address == block) {
            returned->notes[i].address = 0;
            return true;
        }
    return false;
}

// --- allocation --------------------------------------------------------
// A traced operator new calls a malloc that is traced, too: one block, named
// after the outer function.
static FLK_NOINLINE void forget_inner(uintptr_t block) {
    flk_record inner;
    FLK_ASSERT(block != 0);
    flk_tracker_on_free(FLK_LAYER_HEAP, block, 0, &inner);
}

static FLK_HOT void made(flk_marks *marks, uint32_t session, uintptr_t block,
                         uint64_t size_bytes, uint16_t type, uint32_t stub) {
    if (FLK_UNLIKELY(FLK_STUB_GET(stub, is_traced)))
        forget_inner(block);
    flk_report_made_hot(marks, session, FLK_LAYER_HEAP, block, size_bytes,
                        type);
}

// An address that was noted may come back in a block of the caller's own.
static void note_or_made(uint32_t session, uintptr_t block, uint64_t size_bytes,
                         uint16_t type, uint32_t stub) {
    flk_marks *marks = flk_platform_thread_marks();
    flk_returned *returned = &marks->returned;
    FLK_ASSERT(block != 0 && type != 0);
    if (returned->note_count)
        forget_returned(returned, block);
    if (returned->type == type && !returned->is_all)
        note_returned(returned, block, size_bytes);
    else
        made(marks, session, block, size_bytes, type, stub);
}

// While the original runs, allocations below it are part of this one, so that
// a provider that uses another provider is recorded once. The original may
// throw std::bad_alloc; then there is nothing to undo.
static FLK_NOINLINE uintptr_t allocate_for_result(uintptr_t a, uintptr_t b,
                                                  uintptr_t c, uint32_t stub,
                                                  uint16_t type,
                                                  uint32_t session) {
    flk_function_of_3 original =
        (flk_function_of_3)flk_stub_table_original(stub);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t returned = marks->returned.type;
    FLK_ASSERT(type != 0 && returned != 0);
    marks->returned.type = 0;
    uintptr_t block = original(a, b, c);
    marks->returned.type = returned;
    if (block)
        note_or_made(session, block, flk_stub_table_size(stub, a, b, c), type,
                     stub);
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
    uint16_t type = type_of_call(stub, caller, marks, STACK_HERE);
    if (!type)
        return original(a, b, c);
    if (FLK_UNLIKELY(marks->returned.type))
        return allocate_for_result(a, b, c, stub, type, session);
    uintptr_t block = original(a, b, c);
    if (FLK_LIKELY(block))
        made(marks, session, block, flk_stub_table_size(stub, a, b, c), type,
             stub);
    return block;
}

// posix_memalign(&block, alignment, size).
uintptr_t flk_bodies_place(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t stub,
                           const void *caller) {
    flk_function_of_3 original =
        (flk_function_of_3)flk_stub_table_original(stub);
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(flk_stub_table_state() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_platform_thread_marks();
    uint16_t type = type_of_call(stub, caller, marks, STACK_HERE);
    uint16_t returned = marks->returned.type;
    marks->returned.type = 0;
    uintptr_t error = original(a, b, c);
    marks->returned.type = returned;
    if (type && (int)error == 0 && *(uintptr_t *)a)
        note_or_made(session, *(uintptr_t *)a, c, type, stub);
    return error;
}

// --- release -----------------------------------------------------------
// delete[] calls delete calls free, and one provider's free may call another
// provider's free: the outermost call is reported.
static FLK_HOT bool is_inner_release(const flk_marks *marks, uintptr_t a,
                                     uintptr_t here) {
    return FLK_UNLIKELY(marks->releasing == a) &&
           !is_left_behind(marks->releasing_frame, here);
}

// Where a body's stub was called: the stub ends in a jump to the body.
#define RETURNS_TO ((uintptr_t)__builtin_return_address(0))

static FLK_NOINLINE bool gone_unrecorded(uintptr_t a, uint32_t stub) {
    flk_judged judged = flk_judge_release(a, stub);
    FLK_ASSERT(a != 0 && judged <= FLK_JUDGED_REFUSED);
    if (judged == FLK_JUDGED_FOREIGN && !flk_sample_is_on())
        flk_report_count(FLK_HOOK_FOREIGN_FREES);
    return judged != FLK_JUDGED_REFUSED;
}

// False: the release is proven misuse, and is not to be passed on.
static FLK_HOT bool gone(flk_marks *marks, uintptr_t a, uint32_t stub,
                         uintptr_t caller) {
    FLK_ASSERT(a != 0);
    if (FLK_UNLIKELY(marks->returned.type) &&
        forget_returned(&marks->returned, a))
        return true;
    return FLK_LIKELY(flk_report_gone_hot(marks, FLK_LAYER_HEAP, a,
                                          flk_stub_table_type(stub), caller)) ||
           gone_unrecorded(a, stub);
}

uintptr_t flk_bodies_free(uintptr_t a, uintptr_t b, uintptr_t c,
                          uint32_t stub) {
    FLK_ASSERT(flk_stub_table_function(stub) == FLK_FN_FREE);
    flk_marks *marks = flk_platform_thread_marks();
    if (FLK_UNLIKELY(!atomic_load_explicit(&flk_stub_table_now.has_one_free,
                                           memory_order_relaxed)))
        return flk_bodies_release(a, b, c, stub);
    if (FLK_LIKELY(a && !is_inner_release(marks, a, STACK_HERE)) &&
        FLK_UNLIKELY(!gone(marks, a, stub, RETURNS_TO)))
        return 0;
    return ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
}

uintptr_t flk_bodies_release(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t stub) {
    flk_function_of_3 original =
        (flk_function_of_3)flk_stub_table_original(stub);
    flk_marks *marks = flk_platform_thread_marks();
    if (FLK_LIKELY(flk_stub_table_is_off()) || !a ||
        is_inner_release(marks, a, STACK_HERE))
        return original(a, b, c);
    if (FLK_UNLIKELY(!gone(marks, a, stub, RETURNS_TO)))
        return 0;
    uintptr_t outer = marks->releasing, outer_frame = marks->releasing_frame;
    marks->releasing = a;
    marks->releasing_frame = STACK_HERE;
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
    uint16_t returned = marks->returned.type;
    marks->releasing = a;
    marks->releasing_frame = STACK_HERE;
    marks->returned.type = 0;
    uintptr_t moved =
        ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    marks->releasing = releasing;
    marks->releasing_frame = frame;
    marks->returned.type = returned;
    if (moved && returned)
        forget_returned(&marks->returned, a);
    return moved;
}

// What would free memory that is not allocated fails instead.
static uintptr_t resize_unrecorded(uintptr_t a, uintptr_t b, uintptr_t c,
                                   uint32_t stub) {
    FLK_ASSERT(a != 0);
    if (flk_judge_release(a, stub) != FLK_JUDGED_REFUSED)
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
static void end_move(uintptr_t from, const flk_record *record, uintptr_t to,
                     uint64_t size_bytes) {
    FLK_ASSERT(to != 0);
    flk_record removed;
    flk_tracker_move_end(FLK_LAYER_HEAP, from, record, to, size_bytes);
    if (!flk_sample_takes(flk_platform_thread_marks(), size_bytes))
        flk_tracker_on_free(FLK_LAYER_HEAP, to, 0, &removed);
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
        end_move(a, record, moved, flk_stub_table_size(stub, a, b, c));
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
            note_or_made(session, moved, size_bytes, type, stub);
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
        is_inner_release(marks, a, STACK_HERE))
        return ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    uint16_t type = state == FLK_HOOKS_ON
                        ? type_of_call(stub, caller, marks, STACK_HERE)
                        : 0;
    if (FLK_UNLIKELY(marks->is_forking))
        return resize_in_fork(a, b, c, stub, type);
    if (FLK_UNLIKELY(flk_thread_is_inside())) {
        flk_report_count(FLK_HOOK_REENTERED);
        return call_resize(a, b, c, stub);
    }
    return resize(a, b, c, stub, type, session, (uintptr_t)caller);
}

// --- what the C library returns to a caller -----------------------------
// A buffer that the caller passed in was not allocated here, and is not
// recorded. With more notes than there is room for the block may be missed.
static void record_returned(uint32_t session, uintptr_t block) {
    const flk_returned *returned = &flk_platform_thread_marks()->returned;
    FLK_ASSERT(returned->type != 0);
    for (uint32_t i = 0; block && i < noted(returned); i++)
        if (returned->notes[i].address == block) {
            flk_report_made(session, FLK_LAYER_HEAP, block,
                            returned->notes[i].size_bytes, returned->type);
            return;
        }
    if (block && returned->note_count > FLK_RETURNED_MAX)
        flk_report_count(FLK_HOOK_RETURNED_LOST);
}

static void begin_returned(flk_returned *returned, uint16_t type,
                           flk_sizes where, uintptr_t here) {
    FLK_ASSERT(type != 0 && here != 0);
    returned->type = type;
    returned->is_all = where == FLK_SIZES_ALL;
    returned->note_count = 0;
    returned->frame = here;
}

// Such a call may stand inside another one: in a callback of the traced
// object (scandir, a stream's cookie). The notes of the outer one are kept.
uintptr_t flk_bodies_return(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                            uint32_t stub, const void *caller) {
    flk_function_of_4 original =
        (flk_function_of_4)flk_stub_table_original(stub);
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(flk_stub_table_state() != FLK_HOOKS_ON) ||
        (flk_stub_table_via(stub) != FLK_VIA_TRACED &&
         !flk_bodies_is_traced(stub, caller)))
        return original(a, b, c, d);
    flk_marks *marks = flk_platform_thread_marks();
    flk_sizes where = flk_functions_info[flk_stub_table_function(stub)].sizes;
    if (FLK_UNLIKELY(marks->returned.frame))
        drop_left_behind(marks, STACK_HERE);
    bool is_inner = marks->returned.frame != 0;
    flk_returned outer;
    if (FLK_UNLIKELY(is_inner))
        outer = marks->returned;
    begin_returned(&marks->returned, flk_stub_table_type(stub), where,
                   STACK_HERE);
    uintptr_t result = original(a, b, c, d);
    marks->returned.type = flk_stub_table_type(stub);
    if (where == FLK_SIZES_RETURNED)
        record_returned(session, result);
    else if (where == FLK_SIZES_POINTED && a)  // getline: at the end, too
        record_returned(session, *(uintptr_t *)a);
    marks->returned.type = marks->returned.note_count = 0;
    marks->returned.frame = 0;
    if (FLK_UNLIKELY(is_inner))
        marks->returned = outer;
    return result;
}
#endif

// flk_hook.c - the bodies of the hooks. Contract: flk_hook.h.                SPDX-License-Identifier: MIT
#include "flk_hook.h"

#ifdef FLK_HAS_ELF
#include <errno.h>

#include "flk_callers.h"
#include "flk_names.h"
#include "flk_record.h"

typedef uintptr_t (*function_of_3)(uintptr_t, uintptr_t, uintptr_t);
typedef uintptr_t (*function_of_4)(uintptr_t, uintptr_t, uintptr_t,
                                   uintptr_t);

static struct {
    atomic_int state;  // relaxed: an flk_hooks_state
    // Before any word points at a hook of the definer; constant while one
    // does (relaxed).
    atomic_uintptr_t originals[FLK_DEFINERS_MAX][FLK_FN_COUNT];
    atomic_bool asked[FLK_DEFINERS_MAX];
    _Atomic uint16_t types[FLK_FN_COUNT];
} hooks;

// --- for who patches ---------------------------------------------------
bool flk_hook_init(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool done = true;
    for (int i = 0; i < FLK_FN_COUNT; i++) {
        const flk_function_info *info = &flk_hook_info[i];
        hooks.types[i] = flk_names_intern(info->text, "hook", info->release);
        done &= hooks.types[i] != 0;
    }
    flk_thread_leave(thread);
    return done;
}

void flk_hook_set_state(flk_hooks_state state) {
    atomic_store(&hooks.state, state);
}

flk_hooks_state flk_hook_state(void) { return atomic_load(&hooks.state); }

void flk_hook_set_original(unsigned definer, flk_function function,
                           uintptr_t address) {
    atomic_store(&hooks.originals[definer][function], address);
}

uintptr_t flk_hook_original(unsigned definer, flk_function function) {
    return atomic_load_explicit(&hooks.originals[definer][function],
                                memory_order_relaxed);
}

void flk_hook_ask_definer(unsigned definer, bool is_asked) {
    atomic_store(&hooks.asked[definer], is_asked);
}

// --- a site ------------------------------------------------------------
static unsigned definer_of(uint32_t site) { return site & 3; }
static flk_via via_of(uint32_t site) { return (flk_via)(site >> 2 & 3); }
static flk_function function_of(uint32_t site) {
    return (flk_function)(site >> 4);
}
_Static_assert(FLK_DEFINERS_MAX == 4 && FLK_VIA_COUNT <= 4, "FLK_SITE");

static uintptr_t original_of(uint32_t site) {
    return flk_hook_original(definer_of(site), function_of(site));
}

uint16_t flk_hook_type(flk_function function) {
    return atomic_load_explicit(&hooks.types[function], memory_order_relaxed);
}

static uint16_t type_of(uint32_t site) {
    return flk_hook_type(function_of(site));
}

static flk_hooks_state state_now(void) {
    return (flk_hooks_state)atomic_load_explicit(&hooks.state,
                                                 memory_order_relaxed);
}

static bool is_caller_asked(const void *caller) {
    flk_caller found = flk_callers_find((uintptr_t)caller);
    if (FLK_UNLIKELY(found == FLK_CALLER_UNKNOWN))
        flk_record_count(FLK_HOOK_UNKNOWN_CALLERS);
    return found == FLK_CALLER_ASKED;
}

// The type to record under; 0: not to be recorded.
static uint16_t type_to_record(uint32_t site, const void *caller,
                               const flk_marks *marks) {
    flk_via via = via_of(site);
    if (via == FLK_VIA_ASKED)
        return type_of(site);
    if (marks->on_behalf || via == FLK_VIA_QUIET)
        return marks->on_behalf;
    return is_caller_asked(caller) ? type_of(site) : 0;
}

static uint64_t size_of(uint32_t site, uintptr_t a, uintptr_t b,
                        uintptr_t c) {
    switch (flk_hook_info[function_of(site)].sizes) {
    case FLK_SIZES_FIRST:
        return a;
    case FLK_SIZES_SECOND:
        return b;
    case FLK_SIZES_THIRD:
        return c;
    case FLK_SIZES_PRODUCT:
        return a * b;
    case FLK_SIZES_PRODUCT_AFTER:
        return b * c;
    case FLK_SIZES_NONE:
        break;
    }
    return 0;
}

// --- allocation --------------------------------------------------------
static void record_made(uintptr_t block, uint64_t size_bytes, uint16_t type,
                        uint32_t site) {
    // An operator new that is asked for, and whose malloc is asked for too,
    // made one block and not two: the outer one names it.
    if (FLK_UNLIKELY(atomic_load_explicit(&hooks.asked[definer_of(site)],
                                          memory_order_relaxed))) {
        flk_record inner;
        flk_tracker_on_free(FLK_LAYER_HEAP, block, 0, &inner);
    }
    flk_record_made(FLK_LAYER_HEAP, block, size_bytes, type);
}

uintptr_t flk_hook_allocate(uintptr_t a, uintptr_t b, uintptr_t c,
                            uint32_t site, const void *caller) {
    function_of_3 original = (function_of_3)original_of(site);
    if (FLK_LIKELY(state_now() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_thread_marks();
    uint16_t type = type_to_record(site, caller, marks);
    if (!type)
        return original(a, b, c);
    // A definer that stands on another one is recorded once. The original
    // may throw: then nothing here needs to be undone.
    uint16_t on_behalf = marks->on_behalf;
    marks->on_behalf = 0;
    uintptr_t block = original(a, b, c);
    marks->on_behalf = on_behalf;
    if (FLK_LIKELY(block))
        record_made(block, size_of(site, a, b, c), type, site);
    return block;
}

uintptr_t flk_hook_place(uintptr_t a, uintptr_t b, uintptr_t c,
                         uint32_t site, const void *caller) {
    function_of_3 original = (function_of_3)original_of(site);
    if (FLK_LIKELY(state_now() != FLK_HOOKS_ON))
        return original(a, b, c);
    flk_marks *marks = flk_thread_marks();
    uint16_t type = type_to_record(site, caller, marks);
    uint16_t on_behalf = marks->on_behalf;
    marks->on_behalf = 0;
    uintptr_t error = original(a, b, c);
    marks->on_behalf = on_behalf;
    if (type && (int)error == 0 && *(uintptr_t *)a)
        record_made(*(uintptr_t *)a, c, type, site);
    return error;
}

uintptr_t flk_hook_lend(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                        uint32_t site, const void *caller) {
    function_of_4 original = (function_of_4)original_of(site);
    if (FLK_LIKELY(state_now() != FLK_HOOKS_ON))
        return original(a, b, c, d);
    flk_marks *marks = flk_thread_marks();
    uint16_t type = type_to_record(site, caller, marks);
    if (!type || marks->on_behalf)
        return original(a, b, c, d);
    marks->on_behalf = type;
    uintptr_t result = original(a, b, c, d);
    marks->on_behalf = 0;
    return result;
}

// --- release -----------------------------------------------------------
uintptr_t flk_hook_release(uintptr_t a, uintptr_t b, uintptr_t c,
                           uint32_t site) {
    function_of_3 original = (function_of_3)original_of(site);
    flk_marks *marks = flk_thread_marks();
    // delete[] calls delete calls free: the outermost has told.
    if (FLK_LIKELY(state_now() == FLK_HOOKS_OFF) || !a ||
        marks->releasing == a)
        return original(a, b, c);
    flk_record_gone(FLK_LAYER_HEAP, a, type_of(site));
    uintptr_t outer = marks->releasing;
    marks->releasing = a;
    uintptr_t result = original(a, b, c);
    marks->releasing = outer;
    return result;
}

// --- realloc -----------------------------------------------------------
// What the original does below this call is part of it.
static uintptr_t call_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t site) {
    flk_marks *marks = flk_thread_marks();
    flk_marks outer = *marks;
    marks->releasing = a;
    marks->on_behalf = 0;
    uintptr_t moved = ((function_of_3)original_of(site))(a, b, c);
    *marks = outer;
    return moved;
}

// With a size of zero the block is freed here, resized there, and NULL may
// mean either that or a failure: only errno tells.
static uintptr_t resize_to_nothing(uintptr_t a, uintptr_t b, uintptr_t c,
                                   uint32_t site) {
    flk_record record;
    if (!flk_record_moves(FLK_LAYER_HEAP, a, type_of(site), &record))
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
    if (moved || size_of(site, a, b, c) == 0)
        flk_record_gone(FLK_LAYER_HEAP, a, type_of(site));
    if (moved && type)
        flk_record_made(FLK_LAYER_HEAP, moved, size_of(site, a, b, c), type);
    return moved;
}

static uintptr_t resize(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t site,
                        uint16_t type) {
    uint64_t size_bytes = size_of(site, a, b, c);
    if (size_bytes == 0)
        return resize_to_nothing(a, b, c, site);
    flk_record record;
    bool is_known = flk_record_moves(FLK_LAYER_HEAP, a, type_of(site),
                                     &record);
    uintptr_t moved = call_resize(a, b, c, site);
    if (is_known && moved)
        flk_tracker_move_end(FLK_LAYER_HEAP, a, &record, moved, size_bytes);
    else if (is_known)
        flk_tracker_move_cancel(FLK_LAYER_HEAP, a, &record);
    else if (moved && type)
        flk_record_made(FLK_LAYER_HEAP, moved, size_bytes, type);
    return moved;
}

uintptr_t flk_hook_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                          uint32_t site, const void *caller) {
    if (!a)
        return flk_hook_allocate(a, b, c, site, caller);
    flk_marks *marks = flk_thread_marks();
    flk_hooks_state state = state_now();
    if (FLK_LIKELY(state == FLK_HOOKS_OFF) || marks->releasing == a)
        return ((function_of_3)original_of(site))(a, b, c);
    uint16_t type = state == FLK_HOOKS_ON
                        ? type_to_record(site, caller, marks)
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

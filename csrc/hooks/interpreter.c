// interpreter.c - PyMem_Malloc and similar functions. Contract: hooks/interpreter.h.   SPDX-License-Identifier: MIT
#include "hooks/interpreter.h"

flk_interpreter_counts flk_interpreter_live;

#ifdef FLK_HAS_ELF
#include <string.h>
#include <wchar.h>

#include "hooks/bodies.h"
#include "hooks/report.h"
#include "hooks/returned.h"

// --- counts --------------------------------------------------------------
static void count_block(uintptr_t block) {
    FLK_ASSERT(block != 0);
    atomic_fetch_add(flk_interpreter_coarse(block), 1);
    atomic_fetch_add(flk_interpreter_fine(block), 1);
}

// A block of the last session may be freed after its counts were cleared.
static void lower(_Atomic uint16_t *count) {
    uint16_t now = atomic_load(count);
    while (now > 0 && !atomic_compare_exchange_weak(count, &now, now - 1))
        ;
}

static void discount_block(uintptr_t block) {
    FLK_ASSERT(block != 0);
    lower(flk_interpreter_fine(block));
    lower(flk_interpreter_coarse(block));
}

// --- are frees seen? -------------------------------------------------------
// Code, and flags: valid in the child of a fork.
static struct {
    _Atomic(bool (*)(flk_domain)) begin;
    _Atomic(void (*)(void)) end;
    atomic_bool is_on[FLK_DOMAIN_COUNT];  // relaxed
    atomic_uintptr_t asked;  // the block of flk_interpreter_sees; 0 = it was
                             // seen
} frees;

void flk_interpreter_set_watch(bool (*begin)(flk_domain), void (*end)(void)) {
    FLK_ASSERT(begin != NULL && end != NULL);
    atomic_store(&frees.end, end);
    atomic_store(&frees.begin, begin);
}

static bool begin_watch(flk_domain domain) {
    bool (*begin)(flk_domain) = atomic_load(&frees.begin);
    bool is_on = begin && begin(domain);
    atomic_store(&frees.is_on[domain], is_on);
    return is_on;
}

static bool is_watched(flk_domain domain) {
    FLK_ASSERT(domain < FLK_DOMAIN_COUNT);
    return FLK_LIKELY(atomic_load_explicit(&frees.is_on[domain],
                                           memory_order_relaxed)) ||
           begin_watch(domain);
}

void flk_interpreter_check_later(void) {
    for (int i = 0; i < FLK_DOMAIN_COUNT; i++)
        atomic_store(&frees.is_on[i], false);
}

void flk_interpreter_forget(void) {
    void (*end)(void) = atomic_load(&frees.end);
    FLK_ASSERT(flk_stub_table_read_state() == FLK_HOOKS_OFF);
    if (end)
        end();
    flk_interpreter_check_later();
    for (int i = 0; i < FLK_COARSE_COUNT; i++)
        if (atomic_load(&flk_interpreter_live.coarse[i]))
            atomic_store(&flk_interpreter_live.coarse[i], 0);
    for (int i = 0; i < FLK_FINE_COUNT; i++)
        if (atomic_load(&flk_interpreter_live.fine[i]))
            atomic_store(&flk_interpreter_live.fine[i], 0);
}

bool flk_interpreter_sees(void *block, void (*release)(void *)) {
    FLK_ASSERT(block != NULL && release != NULL);
    atomic_store(&frees.asked, (uintptr_t)block);
    count_block((uintptr_t)block);
    release(block);
    discount_block((uintptr_t)block);
    return atomic_exchange(&frees.asked, 0) == 0;
}

// --- allocation ------------------------------------------------------------
static flk_domain domain_of(uint32_t stub) {
    flk_function function = flk_stub_table_function(stub);
    if (function == FLK_FN_DECODE_LOCALE)
        return FLK_DOMAIN_RAW;
    return function >= FLK_FN_DECODE_LOCALE
               ? FLK_DOMAIN_MEM
               : (flk_domain)((function - FLK_FN_PYRAW_MALLOC) / 3);
}

static void made(uint32_t stub, uint32_t session, uintptr_t block,
                 uint64_t size_bytes) {
    FLK_ASSERT(block != 0);
    if (is_watched(domain_of(stub)) &&
        flk_report_made(session, FLK_LAYER_HEAP, block, size_bytes,
                        flk_stub_table_type(stub)))
        count_block(block);
}

static bool is_call_recorded(uint32_t stub, const void *caller) {
    return FLK_UNLIKELY(flk_stub_table_state() == FLK_HOOKS_ON) &&
           flk_bodies_is_traced(stub, caller);
}

// What the interpreter allocates to do this is part of it, also if the
// interpreter is recorded itself.
static uintptr_t call_inside(uintptr_t a, uintptr_t b, uintptr_t c,
                             uint32_t stub) {
    flk_marks *marks = flk_platform_thread_marks();
    uintptr_t outer = marks->allocating_frame;
    uint16_t returned = marks->returned.type;
    if (!outer)
        marks->allocating_frame = FLK_STACK_HERE;
    marks->returned.type = 0;
    uintptr_t result =
        ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    marks->returned.type = returned;
    marks->allocating_frame = outer;
    return result;
}

static uintptr_t pass_on(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t stub) {
    return ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
}

uintptr_t flk_interpreter_make(uintptr_t a, uintptr_t b, uintptr_t c,
                               uint32_t stub, const void *caller) {
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(!is_call_recorded(stub, caller)))
        return pass_on(a, b, c, stub);
    uintptr_t block = call_inside(a, b, c, stub);
    if (block)
        made(stub, session, block, flk_stub_table_size(stub, a, b, c));
    return block;
}

static uint64_t text_bytes(flk_sizes sizes, uintptr_t text, uintptr_t count) {
    if (sizes == FLK_SIZES_BYTES)
        return strlen((const char *)text) + 1;
    uint64_t letters = sizes == FLK_SIZES_WIDE_COUNTED && count
                           ? *(const size_t *)count
                           : wcslen((const wchar_t *)text);
    return (letters + 1) * sizeof(wchar_t);
}

uintptr_t flk_interpreter_text(uintptr_t a, uintptr_t b, uintptr_t c,
                               uint32_t stub, const void *caller) {
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(!is_call_recorded(stub, caller)))
        return pass_on(a, b, c, stub);
    uintptr_t text = call_inside(a, b, c, stub);
    if (text)
        made(stub, session, text,
             text_bytes((flk_sizes)FLK_STUB_GET(stub, sizes), text, b));
    return text;
}

// --- release ---------------------------------------------------------------
static uint16_t type_of(flk_domain domain) {
    return flk_stub_table_type_of(
        (flk_function)(FLK_FN_PYRAW_MALLOC + 3 * (int)domain));
}

static bool is_of_python(uint16_t type) {
    for (int i = FLK_FN_PYRAW_MALLOC; flk_functions_is_of_python(i); i++)
        if (type == flk_stub_table_type_of((flk_function)i))
            return true;
    return false;
}

// The block may have a record of this file. A block of malloc that is given to
// the interpreter is judged when it is given to free.
static bool find_ours(uintptr_t block, flk_record *out) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool found = flk_registry_find(FLK_LAYER_HEAP, block, out);
    flk_thread_leave(thread);
    return found && is_of_python(out->type);
}

static bool is_ours(uintptr_t block, uintptr_t here) {
    flk_record found;
    const flk_marks *marks = flk_platform_thread_marks();
    return !flk_stub_table_is_off() && !marks->is_forking &&
           !flk_thread_is_inside() &&
           !flk_bodies_is_inner_release(marks, block, here) &&
           find_ours(block, &found);
}

static bool is_asked(uintptr_t block) {
    return atomic_compare_exchange_strong(&frees.asked, &block, 0);
}

typedef struct releasing {
    uintptr_t block, frame;
} releasing;

static releasing begin_release(uintptr_t block, uintptr_t here) {
    flk_marks *marks = flk_platform_thread_marks();
    releasing outer = {marks->releasing, marks->releasing_frame};
    marks->releasing = block;
    marks->releasing_frame = here;
    return outer;
}

static void end_release(releasing outer) {
    flk_marks *marks = flk_platform_thread_marks();
    marks->releasing = outer.block;
    marks->releasing_frame = outer.frame;
}

FLK_NOINLINE void flk_interpreter_free(flk_domain domain, void *context,
                                       void *block,
                                       void (*original)(void *, void *)) {
    uintptr_t address = (uintptr_t)block, here = FLK_STACK_HERE;
    FLK_ASSERT(block != NULL && domain < FLK_DOMAIN_COUNT);
    if (is_asked(address) || !is_ours(address, here)) {
        original(context, block);
        return;
    }
    flk_report_gone(FLK_LAYER_HEAP, address, type_of(domain));
    discount_block(address);
    releasing outer = begin_release(address, here);
    original(context, block);
    end_release(outer);
}

// --- realloc ---------------------------------------------------------------
static void end_move(uintptr_t from, const flk_record *record, uintptr_t to,
                     uint64_t size_bytes) {
    discount_block(from);
    if (flk_bodies_end_move(from, record, to, size_bytes))
        count_block(to);
}

FLK_NOINLINE void *flk_interpreter_move(flk_domain domain, void *context,
                                        void *block, size_t size_bytes,
                                        void *(*original)(void *, void *,
                                                          size_t)) {
    uintptr_t address = (uintptr_t)block, here = FLK_STACK_HERE;
    uint32_t session = flk_stub_table_session();
    flk_record record;
    FLK_ASSERT(block != NULL && domain < FLK_DOMAIN_COUNT);
    if (!is_ours(address, here) ||
        flk_report_moves(FLK_LAYER_HEAP, address, type_of(domain), &record) ==
            FLK_MOVES_NOT)
        return original(context, block, size_bytes);
    releasing outer = begin_release(address, here);
    uintptr_t moved = (uintptr_t)original(context, block, size_bytes);
    end_release(outer);
    if (moved)
        end_move(address, &record, moved, size_bytes);
    else
        flk_tracker_move_cancel(FLK_LAYER_HEAP, address, &record);
    flk_report_settle(session, FLK_LAYER_HEAP, moved ? moved : address,
                      record.type);
    return (void *)moved;
}

// A block that is recorded was moved by flk_interpreter_move.
uintptr_t flk_interpreter_resize(uintptr_t a, uintptr_t b, uintptr_t c,
                                 uint32_t stub, const void *caller) {
    if (!a)
        return flk_interpreter_make(a, b, c, stub, caller);
    uint32_t session = flk_stub_table_session();
    flk_record record;
    if (FLK_LIKELY(!is_call_recorded(stub, caller)))
        return pass_on(a, b, c, stub);
    uintptr_t moved = call_inside(a, b, c, stub);
    if (moved &&
        !(flk_interpreter_may_hold((void *)moved) && find_ours(moved, &record)))
        made(stub, session, moved, b);
    return moved;
}
#else
void flk_interpreter_set_watch(bool (*begin)(flk_domain), void (*end)(void)) {
    (void)begin, (void)end;
}
void flk_interpreter_check_later(void) {}
void flk_interpreter_forget(void) {}
void flk_interpreter_free(flk_domain domain, void *context, void *block,
                          void (*original)(void *, void *)) {
    (void)domain;
    original(context, block);
}
void *flk_interpreter_move(flk_domain domain, void *context, void *block,
                           size_t size_bytes,
                           void *(*original)(void *, void *, size_t)) {
    (void)domain;
    return original(context, block, size_bytes);
}
bool flk_interpreter_sees(void *block, void (*release)(void *)) {
    return release(block), false;
}
#endif

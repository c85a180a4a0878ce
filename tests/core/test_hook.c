// test_hook.c - the bodies of the hooks over made-up originals.              SPDX-License-Identifier: MIT
#include "hooks/bodies.h"
#include "hooks/callers.h"
#include "hooks/judge.h"
#include "hooks/pause.h"
#include "hooks/report.h"
#include "hooks/stubs.h"
#include "support.h"

#ifdef FLK_HAS_ELF
#include <errno.h>
#include <setjmp.h>
#include <sys/time.h>

typedef uintptr_t (*stub)(uintptr_t, ...);
// What the made-up allocator gives out; readable, and never a block.
static _Alignas(4096) char memory[0x8000];
#define HEAP ((uintptr_t)memory)
enum { PROVIDER = 3 };

// What the made-up allocator does next.
static struct {
    uintptr_t result;
    int error;  // errno, set when not 0
    uint32_t calls;
    uintptr_t words[3];
    uintptr_t inner;       // a stub it calls with its words, or 0
    uintptr_t inner_size;  // instead of the first word, or 0
    void (*during)(void);  // called last, once
} next;

static uintptr_t original(uintptr_t a, uintptr_t b, uintptr_t c) {
    next.calls++;
    next.words[0] = a;
    next.words[1] = b;
    next.words[2] = c;
    if (next.error)
        errno = next.error;
    uintptr_t inner = next.inner;
    void (*during)(void) = next.during;
    next.inner = 0;
    next.during = NULL;
    if (inner)
        ((stub)inner)(next.inner_size ? next.inner_size : a, b, c);
    if (during)
        during();
    return next.result;
}

static uintptr_t place(uintptr_t *out, size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    *out = next.result;
    return (uintptr_t)next.error;
}

static stub traced(flk_function function) {
    return (stub)flk_stubs_at(PROVIDER, function, FLK_VIA_TRACED);
}

static stub untraced(flk_function function) {
    return (stub)flk_stubs_at(PROVIDER, function, FLK_VIA_UNTRACED);
}

static stub looked_up(flk_function function) {
    return (stub)flk_stubs_at(PROVIDER, function, FLK_VIA_EXPORT);
}

static void returns(uintptr_t result) {
    next.result = result;
    next.error = 0;
}

static bool find(flk_layer layer, uintptr_t address, flk_record *out) {
    return flk_registry_find(layer, address, out);
}

static bool is_live(uintptr_t address) {
    flk_record record;
    return find(FLK_LAYER_HEAP, address, &record);
}

static void set_up(void) {
    CHECK(flk_stub_table_init());
    for (int i = 0; i < FLK_FN_COUNT; i++)
        flk_stub_table_set_original(PROVIDER, (flk_function)i,
                                    (uintptr_t)original);
    flk_stub_table_set_original(PROVIDER, FLK_FN_POSIX_MEMALIGN,
                                (uintptr_t)place);
    flk_stub_table_set_state(FLK_HOOKS_ON);
}

// --- names and stubs ----------------------------------------------------
static void test_names_lead_to_functions(void) {
    CHECK(flk_functions_named("malloc") == FLK_FN_MALLOC);
    CHECK(flk_functions_named("__libc_free") == FLK_FN_FREE);
    CHECK(flk_functions_named("_ZdlPvmSt11align_val_t") ==
          FLK_FN_DELETE_SIZED_ALIGNED);
    CHECK(flk_functions_named("mallo") == FLK_FN_COUNT);
    CHECK(flk_functions_named("") == FLK_FN_COUNT);
    for (int i = 0; i < FLK_FN_COUNT; i++)
        CHECK((int)flk_functions_named(flk_functions_info[i].symbol) == i);
}

static void test_stubs_are_told_apart(void) {
    unsigned provider;
    flk_function function;
    flk_via via;
    for (unsigned d = 0; d < FLK_PROVIDERS_MAX; d++)
        for (int v = 0; v < FLK_VIA_COUNT; v++)
            for (int f = 0; f < FLK_FN_COUNT; f++) {
                uintptr_t address =
                    flk_stubs_at(d, (flk_function)f, (flk_via)v);
                CHECK(flk_stubs_find(address, &provider, &function, &via));
                bool is_single = flk_functions_is_single((flk_function)f);
                CHECK(provider == (is_single ? 0 : d));
                CHECK((int)function == f && (int)via == v);
            }
    CHECK(!flk_stubs_find((uintptr_t)malloc, &provider, &function, &via));
    CHECK(!flk_stubs_find(0, &provider, &function, &via));
}

// --- what is recorded ---------------------------------------------------
static void test_words_pass_through(void) {
    returns(HEAP + 0x1000);
    CHECK(traced(FLK_FN_CALLOC)(3, 5, 9) == (HEAP + 0x1000));
    CHECK(next.words[0] == 3 && next.words[1] == 5);
    flk_record record;
    CHECK(find(FLK_LAYER_HEAP, (HEAP + 0x1000), &record) &&
          record.size_bytes == 15);
    returns(0);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(next.words[0] == (HEAP + 0x1000) && !is_live(HEAP + 0x1000));
}

static void test_null_is_not_recorded(void) {
    uint64_t live = live_in(0);
    returns(0);
    next.error = ENOMEM;
    CHECK(traced(FLK_FN_MALLOC)(10) == 0 && errno == ENOMEM);
    traced(FLK_FN_FREE)(0);
    CHECK(live_in(0) == live);
}

static void test_errno_is_kept(void) {
    returns(HEAP + 0x1000);
    errno = 77;
    traced(FLK_FN_MALLOC)(10);
    CHECK(errno == 77);
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 20);
    CHECK(errno == 77);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(errno == 77);
}

static void test_untraced_objects_record_nothing(void) {
    returns(HEAP + 0x1000);
    uint64_t live = live_in(0);
    untraced(FLK_FN_MALLOC)(10);
    untraced(FLK_FN_REALLOC)(0, 10);
    untraced(FLK_FN_REALLOC)((HEAP + 0x2000), 10);
    CHECK(live_in(0) == live);
}

static void test_failed_posix_memalign_is_not_recorded(void) {
    uintptr_t out = 0;
    returns((HEAP + 0x3000));
    next.error = EINVAL;
    CHECK((int)traced(FLK_FN_POSIX_MEMALIGN)((uintptr_t)&out, 3, 8) == EINVAL);
    CHECK(!is_live((HEAP + 0x3000)));
    next.error = 0;
    CHECK((int)traced(FLK_FN_POSIX_MEMALIGN)((uintptr_t)&out, 8, 8) == 0);
    CHECK(is_live((HEAP + 0x3000)));
    traced(FLK_FN_FREE)((HEAP + 0x3000));
}

static void test_sizes_come_from_the_right_words(void) {
    static const struct {
        flk_function function;
        uint64_t size;
    } cases[] = {{FLK_FN_MALLOC, 3},       {FLK_FN_CALLOC, 15},
                 {FLK_FN_MEMALIGN, 5},     {FLK_FN_NEW_ALIGNED, 3},
                 {FLK_FN_NEWS_NOTHROW, 3}, {FLK_FN_PVALLOC, 3}};
    returns(HEAP + 0x1000);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        flk_record record;
        traced(cases[i].function)(3, 5, 0);
        CHECK(find(FLK_LAYER_HEAP, (HEAP + 0x1000), &record));
        CHECK(record.size_bytes == cases[i].size);
        flk_tracker_on_free(FLK_LAYER_HEAP, (HEAP + 0x1000), 0, &record);
    }
}

// --- realloc ------------------------------------------------------------
static void test_realloc_to_nothing_by_result(void) {
    flk_record record;
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(10);
    returns(0);
    errno = 5;
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 0);  // freed, as glibc does
    CHECK(!is_live(HEAP + 0x1000) && errno == 5);
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(10);
    returns((HEAP + 0x2000));
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 0);  // a block, as musl does
    CHECK(!is_live(HEAP + 0x1000) &&
          find(FLK_LAYER_HEAP, (HEAP + 0x2000), &record));
    CHECK(record.size_bytes == 0);
    returns(0);
    next.error = ENOMEM;
    traced(FLK_FN_REALLOC)((HEAP + 0x2000), 0);  // a failure
    CHECK(is_live((HEAP + 0x2000)) && errno == ENOMEM);
    returns(0);
    traced(FLK_FN_FREE)((HEAP + 0x2000));
}

static void test_failed_realloc_changes_nothing(void) {
    flk_record before, after;
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(10);
    CHECK(find(FLK_LAYER_HEAP, (HEAP + 0x1000), &before));
    returns(0);
    next.error = ENOMEM;
    CHECK(traced(FLK_FN_REALLOC)((HEAP + 0x1000), 20) == 0);
    CHECK(find(FLK_LAYER_HEAP, (HEAP + 0x1000), &after));
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    returns(0);
    untraced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(!is_live(HEAP + 0x1000));
}

static void test_realloc_of_an_unrecorded_block_is_new(void) {
    returns((HEAP + 0x5000));
    traced(FLK_FN_REALLOC)((HEAP + 0x4000), 20);
    CHECK(is_live((HEAP + 0x5000)) && !is_live((HEAP + 0x4000)));
    returns(0);
    traced(FLK_FN_FREE)((HEAP + 0x5000));
}

// --- functions below functions ------------------------------------------
static void test_release_below_release_is_reported_once(void) {
    uint64_t foreign = flk_report_counted(FLK_HOOK_FOREIGN_FREES);
    returns(HEAP + 0x1000);
    traced(FLK_FN_NEW)(10);
    returns(0);
    next.inner = (uintptr_t)untraced(FLK_FN_FREE);
    uint32_t calls = next.calls;
    traced(FLK_FN_DELETE)(HEAP + 0x1000);
    CHECK(next.calls == calls + 2 && !is_live(HEAP + 0x1000));
    CHECK(flk_report_counted(FLK_HOOK_FOREIGN_FREES) == foreign);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(flk_report_counted(FLK_HOOK_FOREIGN_FREES) == foreign + 1);
}

static void test_wrong_release_is_counted_and_queued(void) {
    flk_misuse misuse;
    while (flk_misuse_pop(&misuse))
        ;
    uint64_t wrong = flk_report_counted(FLK_HOOK_MISMATCHED_FREES);
    returns(HEAP + 0x1000);
    traced(FLK_FN_NEWS)(10);
    traced(FLK_FN_DELETE)(HEAP + 0x1000);
    CHECK(flk_report_counted(FLK_HOOK_MISMATCHED_FREES) == wrong + 1);
    CHECK(!is_live(HEAP + 0x1000));
    traced(FLK_FN_NEW)(10);
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 20);
    CHECK(flk_report_counted(FLK_HOOK_MISMATCHED_FREES) == wrong + 2);
    CHECK(is_live(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);  // realloc made it one of free
    CHECK(!is_live(HEAP + 0x1000));
    CHECK(flk_misuse_pop(&misuse) && flk_misuse_pop(&misuse));
    CHECK(misuse.verdict == FLK_MISMATCHED_FREE);
    CHECK(misuse.block.address == (HEAP + 0x1000) &&
          misuse.block.size_bytes == 10);
    CHECK(!flk_misuse_pop(&misuse));
}

static void forget_misuses(void) {
    flk_misuse misuse;
    while (flk_misuse_pop(&misuse))
        ;
}

// The made-up allocator gives the address out again, so it is free.
static void test_second_free_is_refused_if_it_is_proven(void) {
    flk_misuse misuse;
    forget_misuses();
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(48);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    uint32_t calls = next.calls;
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(next.calls == calls + 2);  // taken and given back: the proof
    CHECK(flk_misuse_pop(&misuse) && misuse.verdict == FLK_DOUBLE_FREE);
    CHECK(!misuse.suspected && !misuse.passed);
    CHECK(misuse.block.size_bytes == 48 && misuse.here_path);
    errno = 0;
    CHECK(traced(FLK_FN_REALLOC)(HEAP + 0x1000, 90) == 0 && errno == ENOMEM);
    CHECK(flk_misuse_pop(&misuse) && misuse.verdict == FLK_DOUBLE_FREE);
    flk_judge_set(true, false);
    calls = next.calls;
    untraced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(next.calls == calls + 3);
    CHECK(flk_misuse_pop(&misuse) && misuse.passed);
    flk_judge_set(false, false);
}

// Another block was there meanwhile, of code that is not watched.
static void test_second_free_without_proof_is_passed_on(void) {
    flk_misuse misuse;
    for (int suspects = 0; suspects < 2; suspects++) {
        returns(HEAP + 0x1000);
        traced(FLK_FN_MALLOC)(48);
        traced(FLK_FN_FREE)(HEAP + 0x1000);
        returns(HEAP + 0x3000);
        flk_judge_set(false, suspects);
        uint32_t calls = next.calls;
        traced(FLK_FN_FREE)(HEAP + 0x1000);
        CHECK(next.calls > calls && next.words[0] == HEAP + 0x1000);
        CHECK(flk_misuse_pop(&misuse) == (suspects == 1));
        CHECK(!suspects || (misuse.suspected && misuse.passed));
        traced(FLK_FN_FREE)(HEAP + 0x1000);  // forgotten: it was given out
        CHECK(!flk_misuse_pop(&misuse));
    }
    flk_judge_set(false, false);
}

// Code that is not watched gets the address each time. The calls of the
// allocator are bounded, and what is misuse in the end is told.
static void test_many_frees_without_proof_request_few_blocks(void) {
    enum { TURNS = 3000, ASKED_IN_FULL = 8 + TURNS / 64 + 1 };
    flk_misuse misuse;
    uint64_t blocks = flk_report_counted(FLK_HOOK_PROOF_BLOCKS);
    uint64_t brief = flk_report_counted(FLK_HOOK_BRIEF_PROOFS);
    uint32_t calls = next.calls;
    for (int turn = 0; turn < TURNS; turn++) {
        returns(HEAP + 0x5000);
        traced(FLK_FN_MALLOC)(48);
        traced(FLK_FN_FREE)(HEAP + 0x5000);
        returns(HEAP + 0x3000);
        traced(FLK_FN_FREE)(HEAP + 0x5000);
        CHECK(!flk_misuse_pop(&misuse));
    }
    blocks = flk_report_counted(FLK_HOOK_PROOF_BLOCKS) - blocks;
    CHECK(next.calls == calls + 3 * TURNS + 2 * blocks);
    CHECK(blocks <= TURNS + ASKED_IN_FULL * FLK_PROOF_BLOCKS_MAX);
    brief = flk_report_counted(FLK_HOOK_BRIEF_PROOFS) - brief;
    CHECK(brief >= TURNS - ASKED_IN_FULL && brief < TURNS);
    returns(HEAP + 0x5000);
    traced(FLK_FN_MALLOC)(48);
    traced(FLK_FN_FREE)(HEAP + 0x5000);
    traced(FLK_FN_FREE)(HEAP + 0x5000);
    CHECK(flk_misuse_pop(&misuse) && misuse.verdict == FLK_DOUBLE_FREE);
    CHECK(!misuse.suspected && !misuse.passed);
}

static void test_free_of_what_was_moved_and_of_what_was_not(void) {
    flk_misuse misuse;
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(48);
    returns(HEAP + 0x2000);
    traced(FLK_FN_REALLOC)(HEAP + 0x1000, 60);
    returns(HEAP + 0x1000);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(flk_misuse_pop(&misuse) && misuse.verdict == FLK_DOUBLE_FREE);
    traced(FLK_FN_MALLOC)(48);
    traced(FLK_FN_REALLOC)(HEAP + 0x1000, 50);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    traced(FLK_FN_FREE)(HEAP + 0x2000);
    CHECK(!flk_misuse_pop(&misuse));
}

static void test_free_inside_a_block(void) {
    flk_misuse misuse;
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(100);
    uint32_t calls = next.calls;
    traced(FLK_FN_FREE)(HEAP + 0x1000 + 4);  // of no alignment
    CHECK(next.calls == calls);
    CHECK(flk_misuse_pop(&misuse) && misuse.verdict == FLK_INTERIOR_FREE);
    CHECK(misuse.address == HEAP + 0x1004);
    CHECK(misuse.block.address == HEAP + 0x1000);
    traced(FLK_FN_FREE)(HEAP + 0x1000 + 112);  // behind it
    CHECK(next.calls == calls + 1 && !flk_misuse_pop(&misuse));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(!flk_misuse_pop(&misuse));
}

static void test_only_what_is_returned_is_recorded(void) {
    flk_record record;
    returns(HEAP + 0x1000);
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    traced(FLK_FN_STRDUP)(30);
    CHECK(find(FLK_LAYER_HEAP, (HEAP + 0x1000), &record) &&
          record.size_bytes == 30);
    CHECK_TEXT("strdup", flk_names_at(record.type)->type);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    next.inner_size = 40;
    // It made one block, and returned a buffer of the caller's.
    uintptr_t buffer = (HEAP + 0x7000);
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    traced(FLK_FN_GETLINE)((uintptr_t)&buffer);
    CHECK(!is_live(HEAP + 0x1000) && !is_live((HEAP + 0x7000)));
    buffer = (HEAP + 0x1000);
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    traced(FLK_FN_GETLINE)((uintptr_t)&buffer);
    CHECK(is_live(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    untraced(FLK_FN_STRDUP)(30);
    CHECK(!is_live(HEAP + 0x1000));
    next.inner_size = 0;
}

static void allocate_six(void) {
    for (uintptr_t i = 0; i < 6; i++) {
        returns((HEAP + 0x1000) + 16 * i);
        untraced(FLK_FN_MALLOC)(20);
    }
    returns((HEAP + 0x1010));
}

static void test_more_notes_than_room_are_counted(void) {
    uint64_t lost = flk_report_counted(FLK_HOOK_RETURNED_LOST);
    next.during = allocate_six;  // the first and the last three are noted
    CHECK(traced(FLK_FN_REALPATH)(0, 0) == (HEAP + 0x1010) &&
          !is_live((HEAP + 0x1010)));
    CHECK(flk_report_counted(FLK_HOOK_RETURNED_LOST) == lost + 1);
    uintptr_t line = (HEAP + 0x1000);
    next.during = allocate_six;
    traced(FLK_FN_GETLINE)((uintptr_t)&line);
    CHECK(is_live(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    line = (HEAP + 0x1030);
    next.during = allocate_six;
    traced(FLK_FN_GETLINE)((uintptr_t)&line);
    CHECK(is_live((HEAP + 0x1030)));
    traced(FLK_FN_FREE)((HEAP + 0x1030));
    CHECK(flk_report_counted(FLK_HOOK_RETURNED_LOST) == lost + 1);
    returns((HEAP + 0x7000));  // a buffer of the caller's own
    traced(FLK_FN_REALPATH)(0, (HEAP + 0x7000));
    CHECK(flk_report_counted(FLK_HOOK_RETURNED_LOST) == lost + 1);
}

static uintptr_t inner_block;

static void copy_text(void) {  // a callback of the traced object
    uintptr_t outer = next.result;
    returns((HEAP + 0x2000));
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    inner_block = traced(FLK_FN_STRDUP)(30);
    returns(outer);
}

static void test_a_result_inside_a_result(void) {
    flk_record record;
    uintptr_t line = (HEAP + 0x1000);
    returns(HEAP + 0x1000);
    next.inner_size = 40;
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    next.during = copy_text;
    traced(FLK_FN_GETLINE)((uintptr_t)&line);
    next.inner_size = 0;
    CHECK(inner_block == (HEAP + 0x2000) &&
          find(FLK_LAYER_HEAP, (HEAP + 0x2000), &record));
    CHECK_TEXT("strdup", flk_names_at(record.type)->type);
    CHECK(find(FLK_LAYER_HEAP, (HEAP + 0x1000), &record));
    CHECK_TEXT("getline", flk_names_at(record.type)->type);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    traced(FLK_FN_FREE)((HEAP + 0x2000));
}

// --- calls that do not return -------------------------------------------
static jmp_buf back;

static void jump_back(void) { longjmp(back, 1); }

// The frames of the call that is left lie below the frame of the caller.
static FLK_NOINLINE void leave_by_longjmp(flk_function function, uintptr_t a) {
    volatile char deeper[256];
    deeper[0] = 0;
    next.during = jump_back;
    if (setjmp(back) == 0)
        traced(function)(a);
    CHECK(!deeper[0] && next.during == NULL);
}

static void test_a_result_left_by_longjmp(void) {
    returns(HEAP + 0x1000);
    leave_by_longjmp(FLK_FN_GETLINE, 0);
    CHECK(looked_up(FLK_FN_MALLOC)(10) == (HEAP + 0x1000) &&
          !is_live(HEAP + 0x1000));
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    traced(FLK_FN_STRDUP)(30);
    CHECK(is_live(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    leave_by_longjmp(FLK_FN_SCANDIR, 0);
    untraced(FLK_FN_MALLOC)(10);  // by the C library, for itself
    CHECK(!is_live(HEAP + 0x1000));
    leave_by_longjmp(FLK_FN_GETLINE, 0);
    CHECK(traced(FLK_FN_MALLOC)(10) && is_live(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(!is_live(HEAP + 0x1000));
}

// All later calls come from deeper in the stack: nothing shows that the mark
// is void, but calls of the traced object are recorded.
static void test_a_mark_that_cannot_be_judged(void) {
    flk_marks *marks = flk_platform_thread_marks();
    returns(HEAP + 0x1000);
    leave_by_longjmp(FLK_FN_GETLINE, 0);
    marks->returned.type = flk_stub_table_type_of(FLK_FN_GETLINE);
    marks->returned.frame = UINTPTR_MAX;
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    traced(FLK_FN_STRDUP)(30);
    CHECK(is_live(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    untraced(FLK_FN_MALLOC)(10);  // noted
    traced(FLK_FN_MALLOC)(10);    // its address comes back
    CHECK(is_live(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(!is_live(HEAP + 0x1000));
    marks->returned.type = 0;
}

static void test_a_release_left_by_longjmp(void) {
    returns(HEAP + 0x1000);
    traced(FLK_FN_NEW)(10);
    leave_by_longjmp(FLK_FN_DELETE, (HEAP + 0x1000));
    traced(FLK_FN_NEW)(10);
    CHECK(is_live(HEAP + 0x1000));
    traced(FLK_FN_DELETE)(HEAP + 0x1000);
    CHECK(!is_live(HEAP + 0x1000));
}

// --- sessions -----------------------------------------------------------
static void begin_next_session(void) {
    flk_stub_table_set_state(FLK_HOOKS_OFF);
    flk_stub_table_next_session();
    flk_thread_wait_outside();
    flk_stub_table_set_state(FLK_HOOKS_ON);
}

static void test_calls_of_the_last_session_are_not_recorded(void) {
    uint64_t dropped = self_figures().dropped;
    returns(HEAP + 0x1000);
    next.during = begin_next_session;
    CHECK(traced(FLK_FN_MALLOC)(10) == (HEAP + 0x1000) &&
          !is_live(HEAP + 0x1000));
    next.during = begin_next_session;
    traced(FLK_FN_REALLOC)((HEAP + 0x4000), 10);
    CHECK(!is_live(HEAP + 0x1000));
    next.inner = (uintptr_t)untraced(FLK_FN_MALLOC);
    next.during = begin_next_session;
    traced(FLK_FN_STRDUP)(30);
    CHECK(!is_live(HEAP + 0x1000));
    traced(FLK_FN_MALLOC)(10);
    CHECK(is_live(HEAP + 0x1000) && self_figures().dropped == dropped);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
}

static void test_moves_of_the_last_session_are_not_recorded(void) {
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(10);
    returns((HEAP + 0x2000));
    next.during = begin_next_session;
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 20);
    CHECK(!is_live(HEAP + 0x1000) && !is_live((HEAP + 0x2000)));
    traced(FLK_FN_MALLOC)(10);
    returns((HEAP + 0x3000));
    next.during = begin_next_session;
    traced(FLK_FN_REALLOC)((HEAP + 0x2000), 0);
    CHECK(!is_live((HEAP + 0x2000)) && !is_live((HEAP + 0x3000)));
    uint16_t type = flk_type_intern("own", "calloc", "free");
    flk_origin origin = {type, FLK_SCOPE_NONE, 0};
    flk_tracker_on_alloc(FLK_LAYER_HEAP, (HEAP + 0x2000), 8, 0, &origin);
    next.during = begin_next_session;
    traced(FLK_FN_REALLOC)((HEAP + 0x2000), 20);
    CHECK(is_live(
        (HEAP + 0x3000)));  // not recorded by a hook: no session ends it
    traced(FLK_FN_FREE)((HEAP + 0x3000));
    CHECK(!is_live((HEAP + 0x3000)) && flk_tracker_check());
}

static void test_a_handle_ends_with_its_memory(void) {
    track(HEAP + 0x1000, 8);
    track(HEAP + 0x2000, 8);
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(10);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(!flk_untrack(HEAP + 0x1000, FLK_LAYER_HANDLE, NULL));
    traced(FLK_FN_FREE)(HEAP + 0x2000);  // memory that no hook recorded
    CHECK(!flk_untrack(HEAP + 0x2000, FLK_LAYER_HANDLE, NULL));
    track(HEAP + 0x1000, 8);
    traced(FLK_FN_FREE)(HEAP + 0x1010);
    CHECK(flk_untrack(HEAP + 0x1000, FLK_LAYER_HANDLE, NULL));
    CHECK(flk_tracker_check());
}

// --- signal handlers ----------------------------------------------------
// Frees of many addresses need many shards.
static void allocate_in_handler(int number) {
    (void)number;
    traced(FLK_FN_MALLOC)(10);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    for (uintptr_t i = 1; i < 300; i++)
        traced(FLK_FN_FREE)((i << 20) + 16);  // no handle begins there
}

static void interrupt_each_microseconds(suseconds_t microseconds) {
    struct itimerval often = {{0, microseconds}, {0, microseconds}};
    signal(SIGALRM, allocate_in_handler);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
}

// The handler's events need the locks that the interrupted reader holds.
static void test_a_signal_handler_allocates_meanwhile(void) {
    enum { RECORDS = 2000 };
    uint64_t page = flk_platform_page_bytes();
    returns(HEAP + 0x1000);
    for (uint64_t i = 1; i <= RECORDS; i++)
        track(i * page * 16, 8);  // handles: the search goes on
    interrupt_each_microseconds(few_or_many(50000, 1000, 100));
    for (int i = 0; i < few_or_many(20, 200, 2000); i++) {
        flk_stub_table_set_state(FLK_HOOKS_PAUSED);
        flk_stub_table_idle_if_empty();
    }
    interrupt_each_microseconds(0);
    flk_stub_table_set_state(FLK_HOOKS_ON);
    for (uint64_t i = 1; i <= RECORDS; i++)
        CHECK(flk_untrack(i * page * 16, FLK_LAYER_HANDLE, NULL));
}

static void test_a_signal_handler_beside_observers(void) {
    flk_observed event;
    uint8_t all[1] = {1};
    flk_observe_types(all, 1);
    interrupt_each_microseconds(few_or_many(50000, 1000, 100));
    returns(HEAP + 0x1000);
    for (int i = 0; i < few_or_many(500, 20000, 300000); i++) {
        traced(FLK_FN_MALLOC)(10);
        traced(FLK_FN_FREE)(HEAP + 0x1000);
    }
    interrupt_each_microseconds(0);
    flk_observe_types(NULL, 0);
    while (flk_observe_next(&event))
        ;
    flk_record record;
    flk_tracker_on_free(FLK_LAYER_HEAP, (HEAP + 0x1000), 0, &record);
}

// --- the calling object ----------------------------------------------------------
static void test_looked_up_calls_are_attributed_by_return_address(void) {
    stub malloc_there = looked_up(FLK_FN_MALLOC);
    uintptr_t here =
        (uintptr_t)test_looked_up_calls_are_attributed_by_return_address;
    uint64_t unknown = flk_report_counted(FLK_HOOK_UNKNOWN_CALLERS);
    returns(HEAP + 0x1000);
    CHECK(malloc_there(10) == (HEAP + 0x1000) && !is_live(HEAP + 0x1000));
    CHECK(flk_report_counted(FLK_HOOK_UNKNOWN_CALLERS) == unknown + 1);
    for (int is_traced = 0; is_traced < 2; is_traced++) {
        flk_callers_begin();
        flk_callers_add((here - 65536) & ~UINT64_C(4095),
                        (here + 65536) & ~UINT64_C(4095),
                        is_traced ? FLK_CALLER_TRACED : FLK_CALLER_UNTRACED);
        flk_callers_end(false);
        CHECK(malloc_there(10) == (HEAP + 0x1000) &&
              is_live(HEAP + 0x1000) == is_traced);
    }
    CHECK(flk_report_counted(FLK_HOOK_UNKNOWN_CALLERS) == unknown + 1);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    flk_callers_begin();
    flk_callers_end(false);
}

// --- states -------------------------------------------------------------
static void test_states(void) {
    returns(HEAP + 0x1000);
    flk_stub_table_set_state(FLK_HOOKS_PAUSED);
    traced(FLK_FN_MALLOC)(10);
    CHECK(!is_live(HEAP + 0x1000));
    flk_stub_table_set_state(FLK_HOOKS_ON);
    traced(FLK_FN_MALLOC)(10);
    flk_stub_table_set_state(FLK_HOOKS_PAUSED);
    returns((HEAP + 0x2000));
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 20);
    CHECK(!is_live(HEAP + 0x1000) && is_live((HEAP + 0x2000)));
    traced(FLK_FN_FREE)((HEAP + 0x2000));
    CHECK(!is_live((HEAP + 0x2000)));
    flk_stub_table_set_state(FLK_HOOKS_OFF);
    CHECK(traced(FLK_FN_MALLOC)(10) == (HEAP + 0x2000) &&
          !is_live((HEAP + 0x2000)));
    flk_stub_table_set_state(FLK_HOOKS_ON);
}

static void test_idle_until_a_block_is_recorded(void) {
    flk_stub_table_set_state(FLK_HOOKS_PAUSED);
    flk_stub_table_idle_if_empty();
    CHECK(flk_stub_table_read_state() == FLK_HOOKS_IDLE);
    uint64_t foreign = flk_report_counted(FLK_HOOK_FOREIGN_FREES);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 20);
    CHECK(flk_report_counted(FLK_HOOK_FOREIGN_FREES) == foreign);
    // Any record of a block ends the idle state, so that its free is seen.
    flk_origin origin = {flk_type_intern("t", "malloc", "free"), FLK_SCOPE_NONE,
                         0};
    CHECK(flk_tracker_on_alloc(FLK_LAYER_HEAP, (HEAP + 0x1000), 8, 0, &origin));
    CHECK(flk_stub_table_read_state() == FLK_HOOKS_PAUSED &&
          is_live(HEAP + 0x1000));
    flk_stub_table_idle_if_empty();
    CHECK(flk_stub_table_read_state() == FLK_HOOKS_PAUSED);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(!is_live(HEAP + 0x1000));
    // A handle is no block: no hook sees it go.
    CHECK(
        flk_tracker_on_alloc(FLK_LAYER_HANDLE, (HEAP + 0x1000), 8, 0, &origin));
    flk_stub_table_idle_if_empty();
    CHECK(flk_stub_table_read_state() == FLK_HOOKS_IDLE);
    flk_record record;
    flk_tracker_on_free(FLK_LAYER_HANDLE, (HEAP + 0x1000), 0, &record);
    CHECK(flk_tracker_on_alloc(FLK_LAYER_MAPPING, (HEAP + 0x1000), 8, 0,
                               &origin));
    flk_stub_table_idle_if_empty();
    CHECK(flk_stub_table_read_state() == FLK_HOOKS_PAUSED);
    flk_tracker_on_free(FLK_LAYER_MAPPING, (HEAP + 0x1000), 0, &record);
    flk_stub_table_set_state(FLK_HOOKS_ON);
}

// A record that comes later ends what is remembered of its address, however
// it comes.
static void test_a_pause_remembers_what_has_no_record(void) {
    flk_origin origin = {flk_type_intern("t", "malloc", "free"), FLK_SCOPE_NONE,
                         0};
    returns(HEAP + 0x2000);
    traced(FLK_FN_MALLOC)(10);  // the pause does not become idle
    CHECK(!flk_pause_has(HEAP + 0x1000));
    for (int way = 0; way < 4; way++) {
        flk_stub_table_set_state(FLK_HOOKS_PAUSED);
        for (int i = 0; i < 3; i++) {
            uint32_t calls = next.calls;
            traced(FLK_FN_FREE)(HEAP + 0x1000);
            CHECK(next.calls == calls + 1 || i == 0);
            CHECK(next.words[0] == HEAP + 0x1000);
            CHECK(flk_pause_has(HEAP + 0x1000));
            CHECK(!flk_pause_has(HEAP + 0x3000));
        }
        if (way == 0) {  // a hook that began before the pause
            CHECK(flk_tracker_on_alloc(FLK_LAYER_HEAP, HEAP + 0x1000, 8, 0,
                                       &origin));
        } else if (way == 1) {
            returns(HEAP + 0x1000);
            traced(FLK_FN_REALLOC)(HEAP + 0x2000, 20);
            returns(HEAP + 0x2000);
        } else {
            flk_stub_table_set_state(FLK_HOOKS_ON);
            CHECK(!flk_pause_has(HEAP + 0x1000));
            returns(HEAP + 0x1000);
            traced(FLK_FN_MALLOC)(10);
            returns(HEAP + 0x2000);
            if (way == 2)
                flk_stub_table_set_state(FLK_HOOKS_PAUSED);
        }
        CHECK(is_live(HEAP + 0x1000) && !flk_pause_has(HEAP + 0x1000));
        traced(FLK_FN_FREE)(HEAP + 0x1000);
        CHECK(!is_live(HEAP + 0x1000));
        flk_stub_table_set_state(FLK_HOOKS_ON);
        traced(FLK_FN_MALLOC)(10);
    }
    traced(FLK_FN_FREE)(HEAP + 0x2000);
}

// The bits of an epoch that an entry has come again after 65,536 of them.
static void test_a_pause_that_comes_much_later_remembers_nothing(void) {
    returns(HEAP + 0x2000);
    traced(FLK_FN_MALLOC)(10);
    flk_stub_table_set_state(FLK_HOOKS_PAUSED);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(flk_pause_has(HEAP + 0x1000));
    for (int i = 0; i < 3 * 65536; i++) {
        flk_stub_table_set_state(FLK_HOOKS_PAUSED);
        if (flk_pause_has(HEAP + 0x1000))
            break;
    }
    CHECK(!flk_pause_has(HEAP + 0x1000));
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    CHECK(flk_pause_has(HEAP + 0x1000));
    flk_stub_table_set_state(FLK_HOOKS_ON);
    traced(FLK_FN_FREE)(HEAP + 0x2000);
}

static void test_inside_the_guard_events_are_counted(void) {
    uint64_t reentered = flk_report_counted(FLK_HOOK_REENTERED);
    returns(HEAP + 0x1000);
    flk_thread *thread = flk_thread_enter();
    CHECK(traced(FLK_FN_MALLOC)(10) == (HEAP + 0x1000));
    traced(FLK_FN_REALLOC)((HEAP + 0x1000), 20);
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    flk_thread_leave(thread);
    CHECK(flk_report_counted(FLK_HOOK_REENTERED) == reentered + 3);
    CHECK(!is_live(HEAP + 0x1000));
}

static void test_events_wait_while_forking(void) {
    returns(HEAP + 0x1000);
    traced(FLK_FN_MALLOC)(10);
    flk_registry_lock_all();  // as the tracker's handler does
    flk_report_fork_begins();
    traced(FLK_FN_FREE)(HEAP + 0x1000);
    returns((HEAP + 0x2000));
    traced(FLK_FN_MALLOC)(11);
    returns((HEAP + 0x3000));
    traced(FLK_FN_REALLOC)((HEAP + 0x2000), 12);
    flk_registry_unlock_all();
    CHECK(is_live(HEAP + 0x1000) && !is_live((HEAP + 0x2000)));
    flk_report_fork_ends();
    CHECK(!is_live(HEAP + 0x1000) && !is_live((HEAP + 0x2000)) &&
          is_live((HEAP + 0x3000)));
    traced(FLK_FN_FREE)((HEAP + 0x3000));
    CHECK(flk_report_counted(FLK_HOOK_LOST_IN_FORK) == 0);
}

// --- mappings -----------------------------------------------------------
enum { PAGE = 4096 };
static const uintptr_t base = 0x10000000;

static uint64_t mapped_at(uintptr_t address) {
    flk_record record;
    return find(FLK_LAYER_MAPPING, address, &record) ? record.size_bytes : 0;
}

static void map(uintptr_t address, size_t pages) {
    returns(address);
    traced(FLK_FN_MMAP)(0, pages * PAGE, 3, 0x22, -1, 0);
}

static void unmap(uintptr_t address, size_t pages) {
    returns(0);
    untraced(FLK_FN_MUNMAP)(address, pages * PAGE);
}

static void test_unmap_may_cut_anywhere(void) {
    uint64_t live = live_in(0);
    map(base, 10);
    CHECK(mapped_at(base) == 10 * PAGE);
    unmap(base, 2);  // its head
    CHECK(!mapped_at(base) && mapped_at(base + 2 * PAGE) == 8 * PAGE);
    unmap(base + 9 * PAGE, 1);  // its tail
    CHECK(mapped_at(base + 2 * PAGE) == 7 * PAGE);
    unmap(base + 4 * PAGE, 2);  // its middle
    CHECK(mapped_at(base + 2 * PAGE) == 2 * PAGE);
    CHECK(mapped_at(base + 6 * PAGE) == 3 * PAGE);
    map(base + 20 * PAGE, 1);
    unmap(base, 32);  // several at once
    CHECK(live_in(0) == live && flk_tracker_check());
}

static void test_fixed_mapping_replaces(void) {
    map(base, 4);
    returns(base + PAGE);
    traced(FLK_FN_MMAP)(base + PAGE, PAGE, 3, 0x32, -1, 0);
    CHECK(mapped_at(base) == PAGE && mapped_at(base + PAGE) == PAGE);
    CHECK(mapped_at(base + 2 * PAGE) == 2 * PAGE);
    unmap(base, 4);
    returns(UINTPTR_MAX);
    traced(FLK_FN_MMAP)(0, PAGE, 3, 0x22, -1, 0);
    CHECK(!mapped_at(UINTPTR_MAX) && !mapped_at(base));
}

static void test_remap_keeps_identity(void) {
    flk_record before, after;
    map(base, 4);
    CHECK(find(FLK_LAYER_MAPPING, base, &before));
    returns(base + 64 * PAGE);
    untraced(FLK_FN_MREMAP)(base, 4 * PAGE, 8 * PAGE, 1, 0);
    CHECK(find(FLK_LAYER_MAPPING, base + 64 * PAGE, &after));
    CHECK(!mapped_at(base) && after.sequence == before.sequence);
    CHECK(after.size_bytes == 8 * PAGE);
    returns(UINTPTR_MAX);
    untraced(FLK_FN_MREMAP)(base + 64 * PAGE, 8 * PAGE, 90 * PAGE, 0, 0);
    CHECK(mapped_at(base + 64 * PAGE) == 8 * PAGE);
    unmap(base + 64 * PAGE, 8);
    CHECK(!mapped_at(base + 64 * PAGE) && flk_tracker_check());
}

int main(void) {
    start();
    set_up();
    RUN(test_names_lead_to_functions);
    RUN(test_stubs_are_told_apart);
    RUN(test_words_pass_through);
    RUN(test_null_is_not_recorded);
    RUN(test_errno_is_kept);
    RUN(test_untraced_objects_record_nothing);
    RUN(test_failed_posix_memalign_is_not_recorded);
    RUN(test_sizes_come_from_the_right_words);
    RUN(test_realloc_to_nothing_by_result);
    RUN(test_failed_realloc_changes_nothing);
    RUN(test_realloc_of_an_unrecorded_block_is_new);
    RUN(test_release_below_release_is_reported_once);
    RUN(test_wrong_release_is_counted_and_queued);
    RUN(test_second_free_is_refused_if_it_is_proven);
    RUN(test_second_free_without_proof_is_passed_on);
    RUN(test_many_frees_without_proof_request_few_blocks);
    RUN(test_free_of_what_was_moved_and_of_what_was_not);
    RUN(test_free_inside_a_block);
    RUN(test_only_what_is_returned_is_recorded);
    RUN(test_more_notes_than_room_are_counted);
    RUN(test_a_result_inside_a_result);
    RUN(test_a_result_left_by_longjmp);
    RUN(test_a_mark_that_cannot_be_judged);
    RUN(test_a_release_left_by_longjmp);
    RUN(test_calls_of_the_last_session_are_not_recorded);
    RUN(test_moves_of_the_last_session_are_not_recorded);
    RUN(test_a_handle_ends_with_its_memory);
    RUN(test_a_signal_handler_allocates_meanwhile);
    RUN(test_a_signal_handler_beside_observers);
    RUN(test_looked_up_calls_are_attributed_by_return_address);
    RUN(test_states);
    RUN(test_idle_until_a_block_is_recorded);
    RUN(test_a_pause_remembers_what_has_no_record);
    RUN(test_a_pause_that_comes_much_later_remembers_nothing);
    RUN(test_inside_the_guard_events_are_counted);
    RUN(test_events_wait_while_forking);
    RUN(test_unmap_may_cut_anywhere);
    RUN(test_fixed_mapping_replaces);
    RUN(test_remap_keeps_identity);
    RUN(test_everything_is_sound);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif

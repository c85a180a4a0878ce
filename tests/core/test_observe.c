// test_observe.c - which events are delivered, in which order, and silence without observers. SPDX-License-Identifier: MIT
#include "registry/names.h"
#include "support.h"
#include "tracker/heap.h"
#include "tracker/observe.h"

static uint16_t wanted, other;

static void begin(void) {
    flk_tracker_init();
    wanted = flk_type_intern("wanted", "malloc", "free");
    other = flk_type_intern("other", "malloc", "free");
    uint8_t types[16] = {0};
    CHECK(wanted < 16 && other < 16);
    types[wanted] = 1;
    flk_tracker_enable(true);
    flk_observe_types(types, 16);
}

static void end(void) {
    flk_observe_types(NULL, 0);
    flk_observe_clear();
    flk_quarantine_drain();  // LSan does not find the blocks held there
}

static void *allocate(uint16_t type, size_t size_bytes) {
    flk_origin origin = {type, FLK_SCOPE_PROCESS, 0};
    return flk_heap_allocate(size_bytes, 0, false, &origin);
}

static void release(void *block) {
    flk_misuse misuse;
    CHECK(flk_heap_free(block, 0, 0, &misuse) == FLK_FREED);
}

static bool next_is(int what, const void *block, uint64_t size_bytes) {
    flk_observed event;
    return flk_observe_next(&event) && event.what == what &&
           event.block.address == (uintptr_t)block &&
           event.block.size_bytes == size_bytes;
}

static bool nothing_waits(void) {
    flk_observed event;
    return !flk_observe_next(&event);
}

static void test_events_of_wanted_types(void) {
    begin();
    void *block = allocate(wanted, 10), *silent = allocate(other, 10);
    release(silent);
    release(block);
    CHECK(next_is(FLK_OBSERVED_MADE, block, 10));
    CHECK(next_is(FLK_OBSERVED_FREED, block, 10));
    CHECK(nothing_waits());
    end();
}

static void test_types_interned_later(void) {
    begin();
    for (int i = 0; i < 20; i++) {
        char text[16];
        snprintf(text, sizeof text, "later %d", i);
        flk_type_intern(text, "malloc", "free");
    }
    void *block = allocate(flk_type_intern("late", "malloc", "free"), 3);
    CHECK(next_is(FLK_OBSERVED_MADE, block, 3));
    release(block);
    end();
}

static void test_realloc_goes_and_comes(void) {
    begin();
    flk_origin origin = {wanted, FLK_SCOPE_PROCESS, 0};
    flk_misuse misuse;
    void *block = allocate(wanted, 10);
    void *moved = flk_heap_reallocate(block, 5000, &origin, &misuse);
    CHECK(next_is(FLK_OBSERVED_MADE, block, 10));
    CHECK(next_is(FLK_OBSERVED_FREED, block, 10));
    CHECK(next_is(FLK_OBSERVED_MADE, moved, 5000) && nothing_waits());
    CHECK(!flk_heap_reallocate(moved, 0, &origin, &misuse));
    CHECK(next_is(FLK_OBSERVED_FREED, moved, 5000) && nothing_waits());
    end();
}

static void test_silent_in_callbacks(void) {
    begin();
    flk_observe_inside(+1);
    release(allocate(wanted, 10));
    flk_observe_inside(-1);
    CHECK(nothing_waits());
    end();
}

static void test_silent_without_observers(void) {
    begin();
    end();
    release(allocate(wanted, 10));
    flk_quarantine_drain();
    CHECK(nothing_waits() && flk_observe_lost() == 0);
    CHECK(FLK_SETTING(is_usual_alloc) && FLK_SETTING(is_usual_free));
}

static void test_guards_and_observers(void) {
    begin();
    CHECK(flk_configure_guard(32) == 0);
    void *block = allocate(wanted, 10);
    release(block);
    CHECK(next_is(FLK_OBSERVED_MADE, block, 10));
    CHECK(next_is(FLK_OBSERVED_FREED, block, 10));
    end();
    CHECK(!FLK_SETTING(is_usual_alloc));
    flk_quarantine_drain();
    CHECK(flk_configure_guard(0) == 0 && FLK_SETTING(is_usual_alloc));
}

static void test_lost_is_counted(void) {
    begin();
    flk_platform_pages_fail_at(1);
    void *block = allocate(wanted, 10);
    uint64_t lost = flk_observe_lost();
    flk_platform_pages_fail_at(0);
    CHECK(lost == 1 && nothing_waits());
    release(block);
    end();
}

static int told_now, told_soon;
static void now(const flk_observed *event) {
    told_now += event ? event->what : 0;
}
static void soon(void) { told_soon++; }

static void test_tells_where_python_may_run(void) {
    begin();
    flk_observe_set_tellers(now, soon);
    void *block = allocate(wanted, 10);  // from C code
    CHECK(told_now == 0 && told_soon == 1);
    CHECK(next_is(FLK_OBSERVED_MADE, block, 10));
    flk_thread *thread = flk_platform_thread_pointer();
    thread->is_attached = true;  // as the callables of python/ do
    release(block);
    CHECK(told_now == FLK_OBSERVED_FREED && told_soon == 1);
    CHECK(thread->is_attached && nothing_waits());
    thread->is_attached = false;
    flk_observe_set_tellers(NULL, NULL);
    end();
}

// A C thread may make events faster than they are delivered.
static void test_delivery_is_bounded(void) {
    flk_observed event;
    begin();
    flk_observe_set_tellers(now, soon);
    told_soon = 0;
    CHECK(flk_observe_begin() == 0);
    void *blocks[4] = {allocate(wanted, 1), allocate(wanted, 2)};
    CHECK(flk_observe_begin() == 2);
    for (int i = 0; i < 2; i++) {
        CHECK(flk_observe_next(&event) && event.block.size_bytes == i + 1u);
        blocks[2 + i] = allocate(wanted, 3);
    }
    told_soon = 0;
    flk_observe_end();
    CHECK(told_soon == 1);  // for the events that came meanwhile
    CHECK(flk_observe_begin() == 2 && flk_observe_next(&event));
    CHECK(flk_observe_next(&event) && nothing_waits());
    flk_observe_end();
    CHECK(told_soon == 1);
    for (int i = 0; i < 4; i++)
        release(blocks[i]);
    flk_observe_set_tellers(NULL, NULL);
    end();
}

static void *begin_elsewhere(void *count) {
    *(uint32_t *)count = flk_observe_begin();
    return NULL;
}

// The event of a free could overtake that of its allocation otherwise.
static void test_one_thread_at_a_time_delivers(void) {
    flk_observed event;
    uint32_t elsewhere = 9;
    begin();
    flk_observe_set_tellers(now, soon);
    void *block = allocate(wanted, 10), *other = allocate(wanted, 10);
    CHECK(flk_observe_begin() == 2 && flk_observe_next(&event));
    in_thread(begin_elsewhere, &elsewhere);
    CHECK(elsewhere == 0 && flk_observe_begin() == 0);
    flk_thread *thread = flk_platform_thread_pointer();
    thread->is_attached = true;
    told_now = 0;
    release(block);  // waits behind the other, though Python code may run
    thread->is_attached = false;
    CHECK(told_now == 0 && next_is(FLK_OBSERVED_MADE, other, 10));
    flk_observe_end();
    CHECK(next_is(FLK_OBSERVED_FREED, block, 10) && nothing_waits());
    release(other);
    flk_observe_set_tellers(NULL, NULL);
    end();
}

int main(void) {
    RUN(test_events_of_wanted_types);
    RUN(test_types_interned_later);
    RUN(test_realloc_goes_and_comes);
    RUN(test_silent_in_callbacks);
    RUN(test_silent_without_observers);
    RUN(test_guards_and_observers);
    RUN(test_lost_is_counted);
    RUN(test_tells_where_python_may_run);
    RUN(test_delivery_is_bounded);
    RUN(test_one_thread_at_a_time_delivers);
    return DONE();
}

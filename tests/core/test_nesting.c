// test_nesting.c - which open scope unclaimed threads feed, against a model.  SPDX-License-Identifier: MIT
#include "registry/nesting.h"
#include "support.h"

enum { SCOPES = 24 };

static struct {
    uint32_t number, around;
    bool is_open, is_root;
} model[SCOPES];
static int roots[SCOPES], root_count;  // open roots, the last one is the top
static uint32_t homes[SCOPES];         // above which scope each was placed

static int index_of(uint32_t number) {
    for (int i = 0; i < SCOPES; i++)
        if (model[i].is_open && model[i].number == number)
            return i;
    return -1;
}

static uint32_t top(void) {
    return root_count ? model[roots[root_count - 1]].number : 0;
}

static uint32_t root_above(uint32_t number) {
    int i;
    while ((i = index_of(number)) >= 0 && !model[i].is_root)
        number = homes[i];
    return number;
}

// The answer as the header defines it.
static uint32_t expected(bool *is_doubted) {
    uint32_t at = top();
    for (;;) {
        int count = 0;
        uint32_t below = 0;
        for (int i = 0; i < SCOPES; i++)
            if (model[i].is_open && !model[i].is_root && homes[i] == at)
                count++, below = model[i].number;
        *is_doubted = count > 1;
        if (count != 1)
            return at;
        at = below;
    }
}

static void open_at(int i, bool is_root, uint32_t around) {
    model[i].number = flk_scope_new(0, 0);
    model[i].is_open = true;
    model[i].is_root = is_root;
    if (is_root) {
        homes[i] = top();
        roots[root_count++] = i;
        flk_nesting_open_root(model[i].number);
        return;
    }
    bool is_near = around != FLK_SCOPE_NONE && index_of(around) >= 0 &&
                   root_above(around) == top();
    homes[i] = is_near ? around : top();
    flk_nesting_open(model[i].number, around, 1, false);
}

static void close_at(int i) {
    for (int k = 0; k < SCOPES; k++)
        if (model[k].is_open && homes[k] == model[i].number)
            homes[k] = homes[i];
    model[i].is_open = false;
    for (int k = 0; k < root_count; k++)
        if (roots[k] == i) {
            for (root_count--; k < root_count; k++)
                roots[k] = roots[k + 1];
        }
    CHECK(flk_nesting_close(model[i].number).was_open);
    flk_scope_gone(model[i].number);
}

static void compare(void) {
    bool is_doubted;
    uint32_t answer = expected(&is_doubted);
    uint32_t word = atomic_load(&flk_nesting_unclaimed);
    CHECK((word & ~FLK_NESTING_DOUBT) == answer);
    CHECK(!(word & FLK_NESTING_DOUBT) == !is_doubted);
}

static uint32_t draw(uint32_t below) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state % below);
}

static void test_answers_are_those_of_the_model(void) {
    for (int step = 0; step < few_or_many(2000, 20000, 60000); step++) {
        int i = (int)draw(SCOPES);
        int other = (int)draw(SCOPES);
        uint32_t around = model[other].is_open && !model[other].is_root
                              ? model[other].number
                              : FLK_SCOPE_NONE;
        if (model[i].is_open)
            close_at(i);
        else
            open_at(i, draw(8) == 0, around);
        compare();
        if (step % 50 == 0)
            CHECK(flk_nesting_check());
    }
    for (int i = 0; i < SCOPES; i++)
        if (model[i].is_open)
            close_at(i);
    compare();
    CHECK(atomic_load(&flk_nesting_unclaimed) == FLK_SCOPE_PROCESS);
}

static void test_a_closed_scope_stays_closed(void) {
    uint32_t scope = flk_scope_new(0, 0);
    CHECK(!flk_nesting_close(scope).was_open);
    flk_nesting_open(scope, FLK_SCOPE_NONE, 7, true);
    flk_nesting_closed was = flk_nesting_close(scope);
    CHECK(was.was_open && was.was_bare && was.opener == 7);
    flk_nesting_end(scope);
    CHECK(atomic_load(&flk_nesting_unclaimed) == FLK_SCOPE_PROCESS);
    flk_scope_gone(scope);
}

static void test_a_later_process_scope_takes_over(void) {
    uint32_t before = flk_scope_new(0, 0), root = flk_scope_new(0, 0);
    uint32_t after = flk_scope_new(before, 0);
    flk_nesting_open(before, FLK_SCOPE_NONE, 1, false);
    flk_nesting_open_root(root);
    CHECK(atomic_load(&flk_nesting_unclaimed) == root);
    flk_nesting_open(after, before, 1, false);
    CHECK(atomic_load(&flk_nesting_unclaimed) == after);
    flk_nesting_end(after);
    CHECK(atomic_load(&flk_nesting_unclaimed) == root);
    flk_nesting_end(root);
    CHECK(atomic_load(&flk_nesting_unclaimed) == before);
    flk_nesting_end(before);
    flk_scope_gone(after), flk_scope_gone(root), flk_scope_gone(before);
}

// The scope of a thread that does not exist in the child cannot be closed there.
static void test_a_child_has_the_scopes_of_its_thread(void) {
    uint32_t own = flk_scope_new(0, 0), others = flk_scope_new(0, 0);
    flk_nesting_open(own, FLK_SCOPE_NONE, 1, false);
    flk_nesting_open(others, FLK_SCOPE_NONE, 2, false);
    CHECK(atomic_load(&flk_nesting_unclaimed) == FLK_NESTING_DOUBT);
    flk_nesting_forked(3);  // it has none: nothing is known of it
    CHECK(atomic_load(&flk_nesting_unclaimed) == FLK_NESTING_DOUBT);
    flk_nesting_forked(1);
    CHECK(atomic_load(&flk_nesting_unclaimed) == own);
    CHECK(!flk_nesting_close(others).was_open);
    flk_nesting_end(own);
    flk_scope_gone(own), flk_scope_gone(others);
}

static void test_thousands_below_one(void) {
    enum { COUNT = 5000 };
    static uint32_t numbers[COUNT];
    uint32_t outer = flk_scope_new(0, 0);
    flk_nesting_open(outer, FLK_SCOPE_NONE, 1, false);
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = flk_scope_new(outer, 0);
        flk_nesting_open(numbers[i], outer, 1, false);
    }
    CHECK(atomic_load(&flk_nesting_unclaimed) == (outer | FLK_NESTING_DOUBT));
    flk_nesting_end(outer);
    CHECK(atomic_load(&flk_nesting_unclaimed) == FLK_NESTING_DOUBT);
    for (int i = 0; i < COUNT - 1; i++) {
        flk_nesting_end(numbers[i]);
        flk_scope_gone(numbers[i]);
    }
    CHECK(atomic_load(&flk_nesting_unclaimed) == numbers[COUNT - 1]);
    flk_nesting_end(numbers[COUNT - 1]);
    flk_scope_gone(numbers[COUNT - 1]), flk_scope_gone(outer);
}

int main(void) {
    start();
    RUN(test_answers_are_those_of_the_model);
    RUN(test_a_closed_scope_stays_closed);
    RUN(test_a_later_process_scope_takes_over);
    RUN(test_a_child_has_the_scopes_of_its_thread);
    RUN(test_thousands_below_one);
    RUN(test_everything_is_sound);
    return DONE();
}

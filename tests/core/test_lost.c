// test_lost.c - which blocks are lost: known programs in C, and faults.       SPDX-License-Identifier: MIT
#include "reach/lost.h"

#include <sys/mman.h>

#include "support.h"

enum { BYTES = 100, NO_MORE = 0 };
static uint32_t scope;
static void *volatile in_bss;
static void *volatile in_data = &scope;
static _Thread_local void *volatile in_tls;

// A block that is recorded as malloc's.
static void *made(void) {
    void *block = calloc(1, BYTES);
    CHECK(flk_track((uint64_t)(uintptr_t)block, BYTES, FLK_LAYER_HEAP,
                    type_of("int"), scope, 0));
    return block;
}

static void gone(void *block) {
    CHECK(flk_untrack((uint64_t)(uintptr_t)block, FLK_LAYER_HEAP, NULL));
    free(block);
}

// A pointer that the search does not see.
static uintptr_t hidden(void *block) { return ~(uintptr_t)block; }
static void *shown(uintptr_t number) {
    FLK_OPAQUE(number);  // so that no pointer is kept from one use to the next
    return (void *)~number;
}

// Not on the stack, where a struct that is not filled in yet may have pointers
// that were left there.
static flk_lost lost;

// Each test runs twice: the second time verdicts only count, so that a search
// ends as soon as all blocks are held.
static bool lost_only;

static void find(void) {
    CHECK(flk_lost_find(scope, 0, false, true, lost_only, 60000, &lost) ==
          FLK_LOST_FOUND);
}

static const flk_holder *holder_of(uint64_t i) {
    CHECK(lost.ends[i] < lost.holder_count);
    return &lost.holders[lost.ends[i]];
}

static FLK_NOINLINE void check_one(uint8_t verdict, uint32_t kind) {
    find();
    CHECK(lost.count == 1 && lost.verdicts[0] == verdict);
    CHECK(verdict == FLK_VERDICT_LOST || holder_of(0)->kind == kind);
    flk_lost_drop(&lost);
}

// Functions of their own, which leave no pointer in the registers of their
// callers.
static FLK_NOINLINE void point(void *volatile *from, uintptr_t to, int offset) {
    *from = (char *)shown(to) + offset;
}

static FLK_NOINLINE void link_to(uintptr_t from, int word, uintptr_t to,
                                 int offset) {
    point((void *volatile *)shown(from) + word, to, offset);
}

static FLK_NOINLINE void free_hidden(uintptr_t block) { gone(shown(block)); }

// Leaves nothing of what ran before on the stack.
static FLK_NOINLINE uintptr_t make_hidden(void) { return hidden(made()); }

static void test_no_block(void) {
    find();
    CHECK(lost.count == 0 && (lost_only || lost.words > 0) && !lost.is_weak);
    flk_lost_drop(&lost);
}

static void test_single_is_lost(void) {
    uintptr_t block = make_hidden();
    check_one(FLK_VERDICT_LOST, NO_MORE);
    free_hidden(block);
}

static void test_roots_hold(void) {
    uintptr_t block = make_hidden();
    point(&in_bss, block, 0);
    check_one(FLK_VERDICT_HELD, FLK_HOLDER_BSS);
    in_bss = NULL;
    point(&in_data, block, BYTES - 1);
    check_one(FLK_VERDICT_HELD, FLK_HOLDER_DATA);
    in_data = NULL;
    point(&in_tls, block, 5);
    check_one(FLK_VERDICT_HELD, FLK_HOLDER_THREAD_DATA);
    point(&in_tls, block, BYTES);  // behind it
    check_one(FLK_VERDICT_LOST, NO_MORE);
    in_tls = NULL;
    free_hidden(block);
}

static FLK_NOINLINE void hold_in_frame(uintptr_t block) {
    void *volatile held = shown(block);
    check_one(FLK_VERDICT_HELD, FLK_HOLDER_STACK);
    held = NULL;
    (void)held;
}

static void test_stack_holds_and_dead_stack_does_not(void) {
    uintptr_t block = make_hidden();
    hold_in_frame(block);
    check_one(FLK_VERDICT_LOST, NO_MORE);
    free_hidden(block);
}

#if defined(__x86_64__)
// The pointer is in rbx only, which functions keep for their callers.
static void test_register_holds(void) {
    uintptr_t block = make_hidden();
    int failure;
    uint64_t limit = 60000;
    __asm__ volatile("movq %[number], %%rbx\n\tnotq %%rbx"
                     :
                     : [number] "r"(block)
                     : "rbx");
    failure = flk_lost_find(scope, 0, false, true, lost_only, limit, &lost);
    CHECK(failure == FLK_LOST_FOUND && lost.count == 1);
    free_hidden(block);
    flk_lost_drop(&lost);
}
#endif

static void test_trees_hang_below_their_heads(void) {
    uintptr_t blocks[4];
    for (int i = 0; i < 4; i++)
        blocks[i] = make_hidden();
    // 2 -> 0 -> 1 -> 0: a ring below a head that was made last.
    link_to(blocks[0], 0, blocks[1], 0);
    link_to(blocks[1], 3, blocks[0], 0);
    link_to(blocks[2], 0, blocks[0], 0);
    link_to(blocks[3], 0, blocks[3], 0);
    find();
    CHECK(lost.count == 4);
    CHECK(lost.verdicts[2] == FLK_VERDICT_LOST);
    CHECK(lost.held_by[2] == FLK_HOLDER_NONE);
    CHECK(lost.verdicts[0] == FLK_VERDICT_LOST_BELOW);
    CHECK(lost.verdicts[1] == FLK_VERDICT_LOST_BELOW);
    CHECK(lost.held_by[0] == 2 && lost.held_by[1] == 0);
    CHECK(lost.ends[0] == 2 && lost.ends[1] == 2 && lost.ends[2] == 2);
    CHECK(lost.verdicts[3] == FLK_VERDICT_LOST);
    for (int i = 0; i < 4; i++) {
        CHECK(lost.blocks[i].address == blocks[i]);
        free_hidden(blocks[i]);
    }
    flk_lost_drop(&lost);
}

// Rings whose head leads to each of their members, whatever their order in memory.
static void test_ring_below_a_head_has_no_other_head(void) {
    for (int k = 0; k < 9; k++) {
        uintptr_t blocks[4];
        for (int i = 0; i < 4; i++)
            blocks[i] = make_hidden();
        int head = k % 4, at = (head + 1 + k % 3) % 4;
        at = at == head ? (head + 1) % 4 : at;
        link_to(blocks[head], 0, blocks[at], 0);
        int ring[3], count = 0;
        for (int i = 0; i < 4; i++)
            if (i != head)
                ring[count++] = i;
        for (int i = 0; i < 3; i++)
            link_to(blocks[ring[i]], 1, blocks[ring[(i + 1) % 3]], 0);
        find();
        CHECK(lost.count == 4);
        for (int i = 0; i < 4; i++) {
            CHECK(lost.verdicts[i] ==
                  (i == head ? FLK_VERDICT_LOST : FLK_VERDICT_LOST_BELOW));
            CHECK(lost.ends[i] == (uint32_t)head);
            free_hidden(blocks[i]);
        }
        flk_lost_drop(&lost);
    }
}

static FLK_NOINLINE void handle_on(uintptr_t block, bool is_made) {
    uint64_t address = (uintptr_t)shown(block);
    uint16_t type = flk_type_intern("struct object", "made", "object_free");
    if (is_made)
        CHECK(flk_track(address, 0, FLK_LAYER_HANDLE, type, scope, 0));
    else
        CHECK(flk_untrack(address, FLK_LAYER_HANDLE, NULL));
}

// A ring of three, of which one is an object, and a block that leads to the ring
// or nothing: the head is the object, or the block above.
static void test_the_head_of_a_ring_is_the_object(void) {
    for (int k = 0; k < 6; k++) {
        uintptr_t blocks[4];
        for (int i = 0; i < 4; i++)
            blocks[i] = make_hidden();
        for (int i = 0; i < 3; i++)
            link_to(blocks[i], 1, blocks[(i + 1) % 3], 0);
        if (k >= 3)
            link_to(blocks[3], 0, blocks[(k + 1) % 3], 0);
        handle_on(blocks[k % 3], true);
        find();
        CHECK(lost.count == 5);
        for (int i = 0; i < 3; i++) {
            bool is_head = i == k % 3 && k < 3;
            CHECK(lost.verdicts[i] ==
                  (is_head ? FLK_VERDICT_LOST : FLK_VERDICT_LOST_BELOW));
            CHECK(lost.ends[i] == (k < 3 ? (uint32_t)k : 3));
        }
        CHECK(lost.verdicts[3] == FLK_VERDICT_LOST);
        flk_lost_drop(&lost);
        handle_on(blocks[k % 3], false);
        for (int i = 0; i < 4; i++)
            free_hidden(blocks[i]);
    }
}

static void test_chains_are_held_by_their_root(void) {
    uintptr_t blocks[3];
    for (int i = 0; i < 3; i++)
        blocks[i] = make_hidden();
    point(&in_bss, blocks[1], 0);
    link_to(blocks[1], 0, blocks[2], 0);
    link_to(blocks[2], 0, blocks[0], 3);
    find();
    CHECK(lost.verdicts[1] == FLK_VERDICT_HELD);
    CHECK(lost.verdicts[0] == FLK_VERDICT_HELD_BELOW);
    CHECK(lost.held_by[0] == 2 && lost.held_by[2] == 1);
    CHECK(holder_of(0)->kind == FLK_HOLDER_BSS);
    in_bss = NULL;
    for (int i = 0; i < 3; i++)
        free_hidden(blocks[i]);
    flk_lost_drop(&lost);
}

static void test_shared_memory_holds(void) {
    uintptr_t block = make_hidden();
    void *volatile *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    point(&shared[7], block, 0);
    check_one(FLK_VERDICT_HELD, FLK_HOLDER_SHARED);
    munmap((void *)shared, 4096);
    check_one(FLK_VERDICT_LOST, NO_MORE);
    free_hidden(block);
}

static void test_sealed_memory_holds(void) {
    uintptr_t block = make_hidden();
    void *volatile *sealed = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(sealed != MAP_FAILED);
    point(&sealed[7], block, 0);
    CHECK(mprotect((void *)sealed, 4096, PROT_READ) == 0);
    check_one(FLK_VERDICT_HELD, FLK_HOLDER_UNTRACKED);
    munmap((void *)sealed, 4096);
    free_hidden(block);
}

// --- other threads -----------------------------------------------------------
static pthread_barrier_t meets;
static int ends[2];
static uintptr_t passed;

static void *hold_and_wait(void *in_frame) {
    void *volatile held = in_frame ? shown(passed) : NULL;
    in_tls = in_frame ? NULL : shown(passed);
    free_hidden(make_hidden());  // an event: the thread is known
    pthread_barrier_wait(&meets);
    char byte;
    CHECK(read(ends[0], &byte, 1) == 1);
    in_tls = NULL;
    return held;
}

static void check_thread(bool in_frame) {
    pthread_t thread;
    uint32_t own = scope;
    passed = make_hidden();
    scope = 0;  // of the block that the thread makes
    CHECK(pipe(ends) == 0);
    pthread_barrier_init(&meets, NULL, 2);
    CHECK(pthread_create(&thread, NULL, hold_and_wait,
                         in_frame ? &meets : NULL) == 0);
    pthread_barrier_wait(&meets);
    scope = own;
    check_one(FLK_VERDICT_HELD, FLK_HOLDER_STACK);
    CHECK(write(ends[1], "", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    free_hidden(passed);
    close(ends[0]);
    close(ends[1]);
}

static void test_stack_of_other_threads_holds(void) { check_thread(true); }
static void test_thread_data_of_others_holds(void) { check_thread(false); }

// --- faults ------------------------------------------------------------------
static void check_fault(int fault, bool is_weak) {
    uintptr_t block = make_hidden();
    point(&in_bss, block, 0);
    flk_platform_child_fail(fault);
    find();
    CHECK(lost.count == 1 && lost.is_weak == is_weak);
    CHECK(lost.verdicts[0] == FLK_VERDICT_HELD);
    in_bss = NULL;
    free_hidden(block);
    flk_lost_drop(&lost);
}

static void test_fork_that_fails(void) {
    check_fault(FLK_CHILD_REFUSED, true);
    check_fault(FLK_CHILD_SOUND, false);
}

static void test_child_that_is_killed(void) {
    check_fault(FLK_CHILD_DIES, true);
}

static void test_child_that_hangs(void) {
    flk_platform_child_fail(FLK_CHILD_HANGS);
    CHECK(flk_lost_find(scope, 0, false, true, lost_only, 20, &lost) ==
          FLK_LOST_TOO_LONG);
    CHECK(lost.count == 0 && lost.pages == NULL);
}

static void test_time_limit_holds(void) {
    CHECK(flk_lost_find(scope, 0, false, false, lost_only, 0, &lost) ==
              FLK_LOST_TOO_LONG ||
          lost.count == 0);
    flk_lost_drop(&lost);
}

static uint64_t mapped(void) { return flk_platform_pages_own(NULL, 0); }

static void test_each_mapping_may_fail(void) {
    uintptr_t block = make_hidden();
    uint64_t before = mapped();
    int failures = 0;
    for (uint64_t nth = 1; nth < 64; nth++) {
        flk_platform_pages_fail_at(nth);
        int failure =
            flk_lost_find(scope, 0, false, false, lost_only, 60000, &lost);
        flk_platform_pages_fail_at(0);
        CHECK(failure == FLK_LOST_FOUND || lost.count == 0);
        failures += failure != FLK_LOST_FOUND;
        flk_lost_drop(&lost);
        CHECK(mapped() == before);
    }
    CHECK(failures > 5);
    free_hidden(block);
}

static void test_own_mappings_are_listed(void) {
    static flk_pair pairs[4096];
    size_t page = flk_platform_page_bytes();
    char *pages = flk_platform_pages_map(4 * page, page);
    size_t count = flk_platform_pages_own(pairs, 4096), found = 0;
    CHECK(count > 0 && count < 4096);
    for (size_t i = 0; i < count; i++)
        found += pairs[i].key == (uintptr_t)pages &&
                 pairs[i].value == (uintptr_t)pages + 4 * page;
    CHECK(found == 1);
    flk_platform_pages_unmap(pages, 4 * page);
    CHECK(flk_platform_pages_own(pairs, 4096) == count - 1);
}

static void test_many_blocks(void) {
    int count = few_or_many(500, 5000, 20000);
    uintptr_t *blocks = calloc((size_t)count, sizeof *blocks);
    for (int i = 0; i < count; i++)
        blocks[i] = make_hidden();
    for (int i = 1; i < count; i += 2)  // every second one hangs below one
        link_to(blocks[i - 1], 0, blocks[i], 0);
    find();
    CHECK(lost.count == (uint64_t)count);
    for (int i = 0; i < count; i++)
        CHECK(lost.verdicts[i] ==
              (i % 2 ? FLK_VERDICT_LOST_BELOW : FLK_VERDICT_LOST));
    flk_lost_figures figures;
    flk_lost_read(&figures);
    CHECK(figures.count > 0 && figures.bytes_max >= lost.memory_bytes);
    flk_lost_drop(&lost);
    for (int i = 0; i < count; i++)
        free_hidden(blocks[i]);
    free(blocks);
}

static void run_all(void) {
    RUN(test_no_block);
    RUN(test_single_is_lost);
    RUN(test_roots_hold);
    RUN(test_stack_holds_and_dead_stack_does_not);
#if defined(__x86_64__)
    RUN(test_register_holds);
#endif
    RUN(test_trees_hang_below_their_heads);
    RUN(test_ring_below_a_head_has_no_other_head);
    RUN(test_the_head_of_a_ring_is_the_object);
    RUN(test_chains_are_held_by_their_root);
    RUN(test_shared_memory_holds);
    RUN(test_sealed_memory_holds);
    RUN(test_stack_of_other_threads_holds);
    RUN(test_thread_data_of_others_holds);
    RUN(test_fork_that_fails);
    RUN(test_child_that_is_killed);
    RUN(test_child_that_hangs);
    RUN(test_time_limit_holds);
    RUN(test_each_mapping_may_fail);
    RUN(test_own_mappings_are_listed);
    RUN(test_many_blocks);
}

int main(void) {
    start();
    scope = flk_scope_new(0, 1);
    run_all();
    lost_only = true;
    run_all();
    return DONE();
}

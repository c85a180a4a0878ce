// test_platform.c - locks, threads, pages, clocks.                           SPDX-License-Identifier: MIT
#include <errno.h>
#include <sys/mman.h>

#include "signal_stack.h"
#include "support.h"

// --- locks -------------------------------------------------------------
static flk_lock low = FLK_LOCK_INIT(FLK_RANK_SCOPES);
static flk_lock high = FLK_LOCK_INIT(FLK_RANK_ARENA);
static flk_lock shards[2] = {FLK_LOCK_INIT(FLK_RANK_SHARD),
                             FLK_LOCK_INIT(FLK_RANK_SHARD)};

static void test_ranks_may_rise(void) {
    flk_lock_take(&low);
    flk_lock_take(&shards[0]);
    flk_lock_take(&shards[1]);
    flk_lock_take(&high);
    flk_lock_release(&high);
    flk_lock_release(&shards[1]);
    flk_lock_release(&shards[0]);
    flk_lock_release(&low);
    CHECK(atomic_load(&low.word) == 0 && atomic_load(&high.word) == 0);
}

#ifdef FLK_DEBUG
static void take_falling(void) {
    flk_lock_take(&high);
    flk_lock_take(&low);
}

static void release_unheld(void) { flk_lock_release(&low); }

static void test_falling_rank_aborts(void) {
    CHECK(signal_of(take_falling) == SIGABRT);
    CHECK(signal_of(release_unheld) == SIGABRT);
}
#endif

enum { ROUNDS = 20000 };
static uint64_t counted;

static void *count_locked(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        flk_lock_take(&low);
        counted++;
        flk_lock_release(&low);
    }
    return unused;
}

static void test_lock_excludes(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, count_locked, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(counted == 3 * ROUNDS);
}

// --- threads -----------------------------------------------------------
static atomic_int ended_count;
static int marker;

static void note_end(void *pointer) {
    CHECK(pointer == &marker);
    atomic_fetch_add(&ended_count, 1);
}

static void *set_pointer(void *wanted) {
    CHECK(flk_platform_thread_pointer() == NULL);
    flk_platform_thread_set_pointer(wanted);
    CHECK(flk_platform_thread_pointer() == wanted);
    CHECK(flk_platform_thread_ident() == (uint64_t)(uintptr_t)pthread_self());
    return NULL;
}

static void test_thread_end_is_told(void) {
    flk_platform_thread_at_exit(note_end);
    in_thread(set_pointer, &marker);
    CHECK(atomic_load(&ended_count) == 1);
    flk_platform_thread_at_exit(NULL);
}

// --- pages -------------------------------------------------------------
static bool is_zero(const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i])
            return false;
    return true;
}

static void test_pages_are_zeroed_and_aligned(void) {
    size_t page = flk_platform_page_bytes();
    for (size_t alignment = page; alignment <= page << 10; alignment *= 2) {
        char *pages = flk_platform_pages_map(4 * page, alignment);
        CHECK(pages && ((uintptr_t)pages & (alignment - 1)) == 0);
        CHECK(is_zero(pages, 4 * page));
        memset(pages, 1, 4 * page);
        flk_platform_pages_unmap(pages, 4 * page);
    }
}

static void test_forgotten_pages_read_zero(void) {
    size_t page = flk_platform_page_bytes();
    char *pages = flk_platform_pages_map(2 * page, page);
    memset(pages, 1, 2 * page);
    flk_platform_pages_forget(pages + page, page);
    CHECK(pages[page - 1] == 1 && is_zero(pages + page, page));
    flk_platform_pages_unmap(pages, 2 * page);
}

static void test_nth_mapping_fails_once(void) {
    size_t page = flk_platform_page_bytes();
    flk_platform_pages_fail_at(2);
    char *first = flk_platform_pages_map(page, page);
    CHECK(first && !flk_platform_pages_map(page, page));
    char *third = flk_platform_pages_map(page, page);
    CHECK(third);
    CHECK(flk_platform_pages_fail_at(0) == 3);
    flk_platform_pages_unmap(first, page);
    flk_platform_pages_unmap(third, page);
}

static void test_errno_is_kept(void) {
    errno = 77;
    CHECK(!flk_platform_pages_map((size_t)1 << 60, flk_platform_page_bytes()));
    flk_platform_pages_forget(NULL, 0);
    flk_platform_thread_set_pointer(NULL);
    CHECK(errno == 77);
    errno = 0;
}

// A process at its limit of mappings cannot cut one in two: munmap fails.
// Nothing is wrong with us then; the host must go on.
static void unmap_inside_at_map_limit(void) {
    size_t page = flk_platform_page_bytes();
    char *pages = flk_platform_pages_map(3 * page, page);
    int access = PROT_READ;
    while (mmap(NULL, page, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
           MAP_FAILED)
        access ^= PROT_WRITE;
    pages[page] = 1;
    flk_platform_pages_unmap(pages + page, page);
    _exit(pages[0] == 0 ? 0 : 2);
}

static void test_failed_unmap_is_survived(void) {
    if (!IS_SANITIZED && !is_slow_tool())
        CHECK(signal_of(unmap_inside_at_map_limit) == 0);
}

// --- clocks and fatal texts --------------------------------------------
static void test_clocks_do_not_fall(void) {
    uint64_t before = flk_platform_clock_coarse();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = flk_platform_clock_coarse();
        CHECK(now >= before);
        before = now;
    }
    CHECK(flk_platform_clock_wall() > UINT64_C(1600000000) * 1000000000);
}

static void die(void) { flk_platform_fatal("a reason", "file.c", 12); }
static void test_fatal_aborts(void) { CHECK(signal_of(die) == SIGABRT); }

// --- stacks ------------------------------------------------------------
static size_t left;
static void note_left(void) { left = flk_platform_stack_left(); }

static void test_rest_of_a_signal_stack_is_known(void) {
    CHECK(flk_platform_stack_left() == SIZE_MAX);
    on_signal_stack(32768, note_left);
    CHECK(left <= 32768 && left > 32768 - 1024);
    on_signal_stack(8192, note_left);
    CHECK(left <= 8192 && left > 8192 - 1024);
    CHECK(flk_platform_stack_left() == SIZE_MAX);
}

// --- readable memory ---------------------------------------------------
static void test_memory_that_cannot_be_read_is_told(void) {
    size_t page = flk_platform_page_bytes();
    char *pages = flk_platform_pages_map(2 * page, page);
    errno = 7;
    CHECK(flk_platform_can_read(pages, 2 * page));
    CHECK(flk_platform_can_read(pages + 3, 1) && errno == 7);
    CHECK(flk_platform_pages_protect((uintptr_t)pages + page, page, 0));
    CHECK(flk_platform_can_read(pages + page - 5, 5));
    CHECK(!flk_platform_can_read(pages + page - 5, 6));
    CHECK(!flk_platform_can_read(pages + page, 1));
    flk_platform_pages_unmap(pages, 2 * page);
    CHECK(!flk_platform_can_read(pages, 1) && errno == 7);
    CHECK(!flk_platform_can_read(NULL, 1));
    CHECK(!flk_platform_can_read((void *)UINTPTR_MAX, 8));
    CHECK(!flk_platform_can_read((void *)(uintptr_t)0x5A5A5A5A5A5A5A5A, 8));
}

int main(void) {
    RUN(test_ranks_may_rise);
#ifdef FLK_DEBUG
    RUN(test_falling_rank_aborts);
#endif
    RUN(test_lock_excludes);
    RUN(test_thread_end_is_told);
    RUN(test_pages_are_zeroed_and_aligned);
    RUN(test_forgotten_pages_read_zero);
    RUN(test_nth_mapping_fails_once);
    RUN(test_errno_is_kept);
    RUN(test_failed_unmap_is_survived);
    RUN(test_clocks_do_not_fall);
    RUN(test_rest_of_a_signal_stack_is_known);
    RUN(test_memory_that_cannot_be_read_is_told);
    RUN(test_fatal_aborts);
    return DONE();
}

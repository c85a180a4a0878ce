// test_arena.c - chunks of the core's memory.                                SPDX-License-Identifier: MIT
#include "base/config.h"
#include "support.h"

static void test_chunk_is_usable_and_aligned(void) {
    for (size_t bytes = 0; bytes < 20000; bytes += 1 + bytes / 7) {
        size_t usable = flk_arena_usable(bytes);
        char *chunk = flk_arena_get(bytes, (uint32_t)bytes);
        CHECK(chunk && usable >= bytes && ((uintptr_t)chunk & 15) == 0);
        CHECK(flk_arena_usable(usable) == usable);
        memset(chunk, 1, usable);
        flk_arena_put(chunk, bytes);
    }
}

static void test_no_chunk_is_ignored(void) {
    flk_arena_put(NULL, 100);
    CHECK(flk_arena_check());
}

// --- against a model ---------------------------------------------------
typedef struct piece {
    unsigned char *chunk;
    size_t bytes;
    unsigned char mark;
} piece;

static void piece_drop(piece *p) {
    for (size_t i = 0; i < p->bytes; i++)
        CHECK(p->chunk[i] == p->mark);
    flk_arena_put(p->chunk, p->bytes);
    p->chunk = NULL;
}

static void piece_make(piece *p, uint64_t *state) {
    uint64_t number = random_next(state);
    p->bytes = number % (number & 1 << 20 ? 300 : 12000) + 1;
    p->mark = (unsigned char)(number >> 32);
    p->chunk = flk_arena_get(p->bytes, (uint32_t)(number >> 40));
    CHECK(p->chunk);
    memset(p->chunk, p->mark, p->bytes);
}

static void test_chunks_do_not_overlap(void) {
    static piece pieces[1000];
    uint64_t state = 42;
    for (int i = 0; i < 20000; i++) {
        piece *p = &pieces[random_next(&state) % 1000];
        if (p->chunk)
            piece_drop(p);
        else
            piece_make(p, &state);
        if (i % 4000 == 0)
            CHECK(flk_arena_check());
    }
    for (int i = 0; i < 1000; i++)
        if (pieces[i].chunk)
            piece_drop(&pieces[i]);
    CHECK(flk_arena_check());
}

static void get_and_put_all(size_t bytes) {
    static void *chunks[5000];
    for (int i = 0; i < 5000; i++)
        CHECK((chunks[i] = flk_arena_get(bytes, 0)));
    for (int i = 0; i < 5000; i++)
        flk_arena_put(chunks[i], bytes);
}

static void test_memory_goes_back(void) {
    get_and_put_all(100);
    uint64_t before = flk_arena_bytes();
    for (size_t bytes = 16; bytes < 9000; bytes += 700)
        get_and_put_all(bytes);
    // A spare slab for each of the classes used, and the few kept ones.
    CHECK(flk_arena_bytes() <= before + (13 + 8) * FLK_SLAB_BYTES);
    CHECK(flk_arena_check());
}

static void test_large_chunk_is_pages(void) {
    uint64_t before = flk_arena_bytes();
    char *chunk = flk_arena_get(1 << 20, 0);
    CHECK(chunk && flk_arena_bytes() == before + (1 << 20));
    flk_arena_put(chunk, 1 << 20);
    CHECK(flk_arena_bytes() == before);
}

static void test_kept_memory_is_zeroed(void) {
    for (size_t bytes = 1; bytes < 20000; bytes += 111) {
        char *kept = flk_arena_keep(bytes);
        CHECK(kept && ((uintptr_t)kept & 15) == 0);
        for (size_t i = 0; i < bytes; i++)
            CHECK(kept[i] == 0);
        memset(kept, 1, bytes);
    }
}

static void test_failed_mapping_changes_nothing(void) {
    uint64_t before = flk_arena_bytes();
    flk_platform_pages_fail_at(1);
    CHECK(flk_arena_get(1 << 20, 0) == NULL);
    flk_platform_pages_fail_at(1);
    CHECK(flk_arena_keep(1 << 20) == NULL);
    flk_platform_pages_fail_at(0);
    CHECK(flk_arena_bytes() == before && flk_arena_check());
}

// Gets until a mapping is needed, which fails; then all goes on.
static void test_slab_without_memory(void) {
    void *chunks[20000];
    int count = 0;
    flk_platform_pages_fail_at(1);
    while (count < 20000 && (chunks[count] = flk_arena_get(2048, 1)))
        count++;
    CHECK(count < 20000);
    CHECK(flk_arena_check());
    void *more = flk_arena_get(2048, 1);
    CHECK(more);
    flk_arena_put(more, 2048);
    while (count-- > 0)
        flk_arena_put(chunks[count], 2048);
    CHECK(flk_arena_check());
}

// --- threads: each gives back what another one got ---------------------
static void *_Atomic exchange[64];

static void *swap_chunks(void *seed) {
    uint64_t state = (uintptr_t)seed;
    for (int i = 0; i < 20000; i++) {
        uint64_t number = random_next(&state);
        void *mine = flk_arena_get(64, (uint32_t)(number >> 8));
        memset(mine, 1, 64);
        flk_arena_put(atomic_exchange(&exchange[number % 64], mine), 64);
    }
    return NULL;
}

static void test_threads_give_back_others(void) {
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, swap_chunks, (void *)(i + 1));
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 64; i++)
        flk_arena_put(atomic_load(&exchange[i]), 64);
    CHECK(flk_arena_check());
}

int main(void) {
    RUN(test_slab_without_memory);
    RUN(test_chunk_is_usable_and_aligned);
    RUN(test_no_chunk_is_ignored);
    RUN(test_chunks_do_not_overlap);
    RUN(test_memory_goes_back);
    RUN(test_large_chunk_is_pages);
    RUN(test_kept_memory_is_zeroed);
    RUN(test_failed_mapping_changes_nothing);
    RUN(test_threads_give_back_others);
    CHECK(flk_arena_check());
    return DONE();
}

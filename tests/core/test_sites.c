// test_sites.c - codes and sites with code objects that are made up.         SPDX-License-Identifier: MIT
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/platform.h"
#include "base/store.h"
#include "check.h"
#include "paths/sites.h"

// --- code objects that are made up -------------------------------------
typedef struct fake_code {
    const char *function, *filename;
    int32_t first_line;
    bool is_freed;
} fake_code;

static int names_read, lines_read;

static void fake_names(const void *address, const char **function,
                       const char **filename) {
    const fake_code *code = address;
    CHECK(!code->is_freed);
    names_read++;
    *function = code->function;
    *filename = code->filename;
}

static void fake_line(const void *address, int32_t offset, flk_site_info *out) {
    const fake_code *code = address;
    CHECK(!code->is_freed);
    lines_read++;
    out->line = code->first_line + offset;
    out->column = 4;
}

static bool fake_identify(const void *address, flk_code_identity *out) {
    const fake_code *code = address;
    CHECK(!code->is_freed);
    *out = (flk_code_identity){code->function, code->filename,
                               (uint64_t)code->first_line,
                               strncmp(code->filename, "own/", 4) == 0};
    return true;
}

static const flk_sites_reader reader = {fake_identify, fake_names, fake_line};

static flk_site_info described(uint32_t site) {
    flk_site_info info;
    CHECK(flk_sites_describe(site, &info));
    return info;
}

static void kill_code(fake_code *code) {
    flk_sites_retire(code);
    code->is_freed = true;
}

// --- ids ---------------------------------------------------------------
static void test_same_address_same_code(void) {
    fake_code a = {"f", "a.py", 1, false}, b = {"g", "a.py", 9, false};
    uint32_t code = flk_sites_code(&a);
    CHECK(code > 0);
    CHECK(flk_sites_code(&a) == code);
    CHECK(flk_sites_code(&b) == code + 1);
    CHECK(flk_sites_code_count() == code + 1);
    kill_code(&a), kill_code(&b);
    CHECK(flk_sites_check());
}

static void test_same_place_same_site(void) {
    fake_code a = {"f", "a.py", 1, false}, b = {"g", "a.py", 9, false};
    uint32_t first = flk_sites_code(&a);
    uint32_t second = flk_sites_code(&b);
    uint32_t site = flk_sites_intern(first, 2);
    CHECK(site > 0);
    CHECK(flk_sites_intern(first, 2) == site);
    CHECK(flk_sites_intern(first, 4) != site);
    CHECK(flk_sites_intern(second, 2) != site);
    CHECK(flk_sites_code_of(site) == first);
    CHECK(flk_sites_offset_of(site) == 2);
    kill_code(&a), kill_code(&b);
}

static void test_unknown_ids_have_an_answer(void) {
    flk_site_info info;
    uint32_t unknown[] = {0, flk_sites_count() + 1, UINT32_MAX};
    for (int i = 0; i < 3; i++) {
        CHECK(!flk_sites_describe(unknown[i], &info));
        CHECK(flk_sites_code_of(unknown[i]) == 0);
        CHECK(flk_sites_offset_of(unknown[i]) == -1);
    }
    CHECK(flk_sites_intern(0, 1) == 0);
    CHECK(flk_sites_intern(flk_sites_code_count() + 1, 1) == 0);
    CHECK(!flk_sites_code_is_own(0));
}

static void test_own_is_read_once(void) {
    fake_code own = {"f", "own/a.py", 1, false};
    fake_code other = {"f", "a.py", 1, false};
    uint32_t code = flk_sites_code(&own);
    CHECK(flk_sites_code_is_own(code));
    CHECK(!flk_sites_code_is_own(flk_sites_code(&other)));
    own.filename = "a.py";
    CHECK(flk_sites_code_is_own(flk_sites_code(&own)));
    kill_code(&own), kill_code(&other);
    CHECK(flk_sites_code_is_own(code));
}

// --- texts -------------------------------------------------------------
static void test_live_code_is_read_lazily_once(void) {
    fake_code a = {"f", "a.py", 10, false};
    uint32_t site = flk_sites_intern(flk_sites_code(&a), 2);
    names_read = lines_read = 0;
    flk_site_info info = described(site);
    CHECK_TEXT("f", info.function);
    CHECK_TEXT("a.py", info.filename);
    CHECK(info.line == 12 && info.column == 4);
    described(site);
    CHECK(names_read == 1 && lines_read == 1);
    kill_code(&a);
}

static void test_dead_code_keeps_texts_and_lines(void) {
    char function[] = "f", filename[] = "a.py";
    fake_code a = {function, filename, 10, false};
    uint32_t code = flk_sites_code(&a);
    uint32_t first = flk_sites_intern(code, 2);
    uint32_t second = flk_sites_intern(code, 4);
    kill_code(&a);
    function[0] = filename[0] = '?';
    CHECK(described(first).line == 12);
    CHECK(described(second).line == 14);
    CHECK_TEXT("f", described(first).function);
    CHECK_TEXT("a.py", described(second).filename);
}

static void test_reused_address_is_another_code(void) {
    fake_code a = {"old", "old.py", 10, false};
    uint64_t generation = flk_sites_generation();
    uint32_t old_code = flk_sites_code(&a);
    uint32_t old_site = flk_sites_intern(old_code, 2);
    kill_code(&a);
    CHECK(flk_sites_generation() > generation);
    a = (fake_code){"new", "new.py", 20, false};
    uint32_t new_code = flk_sites_code(&a);
    uint32_t new_site = flk_sites_intern(new_code, 2);
    CHECK(new_code != old_code && new_site != old_site);
    CHECK_TEXT("old", described(old_site).function);
    CHECK_TEXT("new", described(new_site).function);
    CHECK(described(old_site).line == 12 && described(new_site).line == 22);
    kill_code(&a);
    CHECK(flk_sites_check());
}

static void test_unknown_death_changes_nothing(void) {
    fake_code a = {"f", "a.py", 1, true};
    uint64_t generation = flk_sites_generation();
    flk_sites_dying(&a);
    flk_sites_retire(&a);
    CHECK(flk_sites_generation() == generation);
}

static void test_dying_code_keeps_its_address(void) {
    fake_code a = {"dying", "a.py", 10, false};
    CHECK(flk_sites_state(&a) == FLK_CODE_UNKNOWN);
    uint32_t code = flk_sites_code(&a);
    CHECK(flk_sites_state(&a) == FLK_CODE_LIVE);
    uint32_t site = flk_sites_intern(code, 2);
    uint64_t generation = flk_sites_generation();
    flk_sites_dying(&a);
    a.is_freed = true;  // from here any read fails
    CHECK(flk_sites_code(&a) == code);
    CHECK(flk_sites_state(&a) == FLK_CODE_DYING);
    CHECK(flk_sites_generation() == generation);
    uint32_t late = flk_sites_intern(code, 4);
    CHECK_TEXT("dying", described(late).function);
    CHECK(described(late).line == -1 && described(site).line == 12);
    flk_sites_retire(&a);
    CHECK(flk_sites_state(&a) == FLK_CODE_UNKNOWN);
    CHECK(flk_sites_generation() == generation + 1);
    CHECK(flk_sites_check());
}

static void test_frozen_texts_outlive_the_reader(void) {
    fake_code a = {"f", "a.py", 10, false}, b = {"g", "b.py", 1, false};
    uint32_t site = flk_sites_intern(flk_sites_code(&a), 2);
    flk_sites_freeze_all();
    uint32_t late = flk_sites_intern(flk_sites_code(&b), 2);
    flk_sites_set_reader(NULL);
    a.is_freed = b.is_freed = true;
    CHECK_TEXT("f", described(site).function);
    CHECK(described(site).line == 12);
    CHECK_TEXT("", described(late).function);
    CHECK(described(late).line == -1 && described(late).column == -1);
    flk_sites_retire(&a), flk_sites_retire(&b);
    flk_sites_set_reader(&reader);
}

static void test_named_code_takes_offsets_as_lines(void) {
    char function[] = "f";
    uint32_t code = flk_sites_named(function, "a.py");
    function[0] = '?';
    uint32_t site = flk_sites_intern(code, 7);
    CHECK(code != flk_sites_named("f", "a.py"));
    CHECK_TEXT("f", described(site).function);
    CHECK(described(site).line == 7 && described(site).column == -1);
    CHECK(!flk_sites_code_is_own(code));
}

static void test_long_text_is_cut_between_characters(void) {
    static char text[FLK_STORE_TEXT_MAX + 100];
    memset(text, 'a', sizeof text - 1);
    memcpy(text + FLK_STORE_TEXT_MAX - 3, "\xE2\x82\xAC", 3);
    uint32_t code = flk_sites_named("f", text);
    const char *kept = described(flk_sites_intern(code, 1)).filename;
    CHECK(strlen(kept) == FLK_STORE_TEXT_MAX - 3);
    CHECK(strspn(kept, "a") == strlen(kept));
}

static void test_equal_file_names_are_shared(void) {
    uint32_t first = flk_sites_named("first", "shared.py");
    uint32_t second = flk_sites_named("second", "shared.py");
    CHECK(described(flk_sites_intern(first, 1)).filename ==
          described(flk_sites_intern(second, 1)).filename);
}

// --- code objects that come back ---------------------------------------
static void test_equal_code_gets_the_retired_id(void) {
    fake_code a = {"again", "again.py", 10, false}, b = a;
    uint32_t code = flk_sites_code(&a), site = flk_sites_intern(code, 2);
    kill_code(&a);
    CHECK(flk_sites_code(&b) == code && flk_sites_intern(code, 2) == site);
    uint32_t other = flk_sites_intern(code, 3);
    CHECK(described(site).line == 12 && described(other).line == 13);
    CHECK_TEXT("again", described(other).function);
    kill_code(&b);
    CHECK(described(site).line == 12 && described(other).line == 13);
    CHECK(flk_sites_check());
}

static void test_codes_that_differ_keep_their_own_ids(void) {
    fake_code first = {"differ", "differ.py", 10, false};
    fake_code others[] = {{"differ", "differ.py", 11, false},
                          {"differ", "other.py", 10, false},
                          {"diffe", "rdiffer.py", 10, false}};
    uint32_t code = flk_sites_code(&first), site = flk_sites_intern(code, 2);
    kill_code(&first);
    for (int i = 0; i < 3; i++) {
        uint32_t other = flk_sites_code(&others[i]);
        CHECK(other != code && flk_sites_intern(other, 2) != site);
        kill_code(&others[i]);
    }
    CHECK(described(site).line == 12);
    CHECK_TEXT("differ.py", described(site).filename);
}

static void test_equal_codes_alive_at_once_have_two_ids(void) {
    fake_code a = {"twin", "twin.py", 10, false}, b = a;
    for (int round = 0; round < 3; round++) {
        uint32_t before = flk_sites_code_count();
        a.is_freed = b.is_freed = false;
        CHECK(flk_sites_code(&a) != flk_sites_code(&b));
        CHECK(flk_sites_code_count() == before + (round == 0 ? 2 : 0));
        kill_code(&a), kill_code(&b);
    }
    CHECK(flk_sites_check());
}

// A code object that could not be read at first sight may be any.
static void test_unread_code_is_not_reused(void) {
    fake_code a = {"unread", "unread.py", 10, false}, b = a;
    flk_sites_set_reader(NULL);
    uint32_t code = flk_sites_code(&a);
    flk_sites_set_reader(&reader);
    kill_code(&a);
    CHECK(flk_sites_code(&b) != code);
    kill_code(&b);
    CHECK(flk_sites_check());
}

static void test_memory_does_not_grow_with_equal_lives(void) {
    fake_code lives[64];
    uint32_t codes = 0;
    uint64_t bytes = 0;
    for (int i = 0; i < 200000; i++) {
        fake_code *code = &lives[i % 64];
        *code = (fake_code){"lives", "lives.py", 1 + i % 7, false};
        flk_sites_intern(flk_sites_code(code), i % 3);
        kill_code(code);
        if (i == 1000)
            codes = flk_sites_code_count(), bytes = flk_arena_bytes();
    }
    CHECK(flk_sites_code_count() == codes && flk_arena_bytes() == bytes);
}

// --- many --------------------------------------------------------------
enum { MANY = 5000, STEPS = 60000 };
static fake_code many[MANY];

// Codes come and go at the same addresses; what was told of each stays.
static void test_random_lives_against_a_model(void) {
    static uint32_t known[MANY];  // id while alive
    static uint32_t sites[STEPS];
    static int32_t lines[STEPS];
    uint64_t random = 1;
    int n = 0;
    for (int step = 0; step < STEPS; step++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint32_t i = (uint32_t)(random >> 40) % MANY;
        if (known[i] && (random >> 20) % 2) {
            kill_code(&many[i]);
            known[i] = 0;
            continue;
        }
        if (!known[i])
            many[i] = (fake_code){"f", "m.py", step, false};
        uint32_t code = flk_sites_code(&many[i]);
        CHECK(known[i] ? code == known[i] : code == flk_sites_code_count());
        known[i] = code;
        sites[n] = flk_sites_intern(code, (int32_t)(random >> 50) % 8);
        lines[n++] = many[i].first_line + (int32_t)(random >> 50) % 8;
    }
    CHECK(flk_sites_check());
    for (int i = 0; i < n; i++)
        CHECK(described(sites[i]).line == lines[i]);
    for (int i = 0; i < MANY; i++)
        if (known[i])
            kill_code(&many[i]);
    CHECK(flk_sites_check());
}

enum { THREADS = 4, ROUNDS = 3000 };

// Each thread owns some code objects and describes sites of all.
static void *live_and_die(void *argument) {
    int base = (int)(intptr_t)argument * 100;
    for (int round = 0; round < ROUNDS; round++) {
        fake_code *code = &many[base + round % 100];
        *code = (fake_code){"f", "t.py", round, false};
        uint32_t id = flk_sites_code(code);
        uint32_t site = flk_sites_intern(id, 3);
        flk_site_info info;
        CHECK(flk_sites_describe(1 + (uint32_t)round % site, &info));
        CHECK(flk_sites_code_of(site) == id);
        if (round % 2)
            CHECK(described(site).line == round + 3);
        kill_code(code);
        CHECK(described(site).line == round + 3);
    }
    return NULL;
}

static void test_threads_meet(void) {
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, live_and_die, (void *)i));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(threads[i], NULL));
    CHECK(flk_sites_check());
}

// --- failures ----------------------------------------------------------
// Some lives with the n-th mapping failing; true if none was asked for it.
static bool lives_with_failure(uint64_t nth) {
    flk_platform_pages_fail_at(nth);
    for (int i = 0; i < 3000; i++) {
        many[i] = (fake_code){"f", "oom.py", i, false};
        uint32_t code = flk_sites_code(&many[i]);
        uint32_t site = flk_sites_intern(code, i % 5);
        flk_site_info info;
        CHECK(code || !site);
        if (site && flk_sites_describe(site, &info))
            CHECK(info.line == i + i % 5);
        if (i % 2)
            kill_code(&many[i]);
    }
    uint64_t mappings = flk_platform_pages_fail_at(0);
    CHECK(flk_sites_check());
    for (int i = 0; i < 3000; i += 2)
        kill_code(&many[i]);
    CHECK(flk_sites_check());
    return mappings < nth;
}

static void test_each_failed_mapping_leaves_it_sound(void) {
    uint64_t nth = 1;
    while (!lives_with_failure(nth))
        nth++;
    CHECK(nth > 1);
}

static void test_no_memory_at_death_leaves_texts_empty(void) {
    static char text[FLK_STORE_TEXT_MAX];
    memset(text, 'x', sizeof text - 1);
    bool was_empty = false;
    for (int i = 0; i < 2000 && !was_empty; i++) {
        text[0] = (char)('a' + i % 26), text[1] = (char)('a' + i / 26);
        fake_code a = {text, "a.py", 10, false};
        uint32_t site = flk_sites_intern(flk_sites_code(&a), 1);
        flk_platform_pages_fail_at(1);
        kill_code(&a);
        flk_platform_pages_fail_at(0);
        was_empty = described(site).function[0] == '\0';
        CHECK(!site || described(site).line == 11);
    }
    CHECK(was_empty);
    CHECK(flk_sites_check());
}

int main(void) {
    flk_sites_set_reader(&reader);
    RUN(test_each_failed_mapping_leaves_it_sound);
    RUN(test_same_address_same_code);
    RUN(test_same_place_same_site);
    RUN(test_unknown_ids_have_an_answer);
    RUN(test_own_is_read_once);
    RUN(test_live_code_is_read_lazily_once);
    RUN(test_dead_code_keeps_texts_and_lines);
    RUN(test_reused_address_is_another_code);
    RUN(test_unknown_death_changes_nothing);
    RUN(test_dying_code_keeps_its_address);
    RUN(test_frozen_texts_outlive_the_reader);
    RUN(test_named_code_takes_offsets_as_lines);
    RUN(test_long_text_is_cut_between_characters);
    RUN(test_equal_file_names_are_shared);
    RUN(test_equal_code_gets_the_retired_id);
    RUN(test_codes_that_differ_keep_their_own_ids);
    RUN(test_equal_codes_alive_at_once_have_two_ids);
    RUN(test_unread_code_is_not_reused);
    RUN(test_memory_does_not_grow_with_equal_lives);
    RUN(test_random_lives_against_a_model);
    RUN(test_threads_meet);
    RUN(test_no_memory_at_death_leaves_texts_empty);
    return DONE();
}

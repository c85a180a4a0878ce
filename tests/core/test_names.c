// test_names.c - interned types.                                             SPDX-License-Identifier: MIT
#include "base/config.h"
#include "registry/names.h"
#include "support.h"

static void test_same_triple_same_id(void) {
    uint16_t id = flk_names_intern("int", "calloc", "free");
    CHECK(id > 0 && flk_names_intern("int", "calloc", "free") == id);
    CHECK(flk_names_intern("int", "malloc", "free") != id);
    CHECK(flk_names_intern("long", "calloc", "free") != id);
    CHECK(flk_names_intern("int", "calloc", "delete") != id);
}

static void test_texts_come_back(void) {
    uint16_t id = flk_names_intern("struct point", "new", "gc");
    CHECK_TEXT("struct point", flk_names_at(id)->type);
    CHECK_TEXT("new", flk_names_at(id)->kind);
    CHECK_TEXT("gc", flk_names_at(id)->release);
}

static uint32_t release_of(const char *type, const char *release) {
    return flk_names_at(flk_names_intern(type, "x", release))->release_id;
}

static void test_equal_releases_have_one_id(void) {
    CHECK(release_of("a", "delete") == release_of("b", "delete"));
    CHECK(release_of("a", "delete") != release_of("a", "delete[]"));
}

static void test_unknown_ids_have_texts(void) {
    CHECK_TEXT("?", flk_names_at(0)->type);
    CHECK_TEXT("?", flk_names_at(65535)->release);
    CHECK(flk_names_at(65535)->release_id == 0);
}

static void test_long_texts_are_cut(void) {
    char text[600];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    uint16_t id = flk_names_intern(text, "k", "r");
    CHECK(strlen(flk_names_at(id)->type) == FLK_TYPE_NAME_MAX - 1);
    text[300] = 'y';
    CHECK(flk_names_intern(text, "k", "r") == id);
    text[FLK_TYPE_NAME_MAX - 1] = '\0';
    CHECK(flk_names_intern(text, "k", "r") == id);
    text[FLK_TYPE_NAME_MAX - 2] = '\0';
    CHECK(flk_names_intern(text, "k", "r") != id);
}

// A text that ends within a character cannot be decoded: reports failed.
static void test_long_texts_are_cut_between_characters(void) {
    static const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC",
                                             "\xF0\x9F\x99\x82"};
    for (size_t i = 0; i < 3; i++)
        for (size_t first = 0; first < 5; first++) {
            size_t bytes = strlen(characters[i]), length = first;
            char text[600] = "xxxxx";
            for (; length < 500; length += bytes)
                memcpy(text + length, characters[i], bytes);
            uint16_t id = flk_names_intern(text, text, text);
            const flk_name *name = flk_names_at(id);
            size_t kept = (FLK_TYPE_NAME_MAX - 1 - first) / bytes;
            CHECK(strlen(name->type) == first + kept * bytes);
            CHECK(memcmp(name->type, text, strlen(name->type)) == 0);
            CHECK(strlen(name->kind) == strlen(name->type));
            CHECK(flk_names_intern(name->type, text, text) == id);
        }
}

static uint16_t intern_numbered(uint32_t number) {
    char text[20];
    snprintf(text, sizeof text, "type %u", number);
    return flk_names_intern(text, "many", "free");
}

static void test_failed_mapping_gives_no_id(void) {
    uint32_t failed = 0, count = flk_names_count();
    for (uint32_t i = 0; i < 3000; i++) {
        flk_platform_pages_fail_at(1);
        failed += intern_numbered(i) == 0;
        flk_platform_pages_fail_at(0);
    }
    CHECK(failed > 0 && flk_names_check());
    for (uint32_t i = 0; i < 3000; i++)
        CHECK(intern_numbered(i) != 0);
    CHECK(flk_names_count() == count + 3000 && flk_names_check());
}

static void *intern_all(void *ids) {
    for (uint32_t i = 0; i < 1000; i++)
        ((uint16_t *)ids)[i] = intern_numbered(10000 + i);
    return NULL;
}

static void test_threads_get_one_id(void) {
    static uint16_t ids[3][1000];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, intern_all, ids[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(memcmp(ids[0], ids[1], sizeof ids[0]) == 0);
    CHECK(memcmp(ids[0], ids[2], sizeof ids[0]) == 0);
}

// Blocks of further types are recorded, with the right kind and release.
static void test_limit_is_met_without_harm(void) {
    uint32_t number = 100000;
    while (flk_names_count() < FLK_NAMES_DISTINCT)
        CHECK(intern_numbered(number++) == flk_names_count());
    CHECK(flk_names_merged() == 0);
    uint16_t other = intern_numbered(number);
    CHECK(other == flk_names_count() && intern_numbered(number + 1) == other);
    CHECK(flk_names_merged() == 2);
    CHECK_TEXT(FLK_NAMES_OTHER, flk_names_at(other)->type);
    CHECK_TEXT("many", flk_names_at(other)->kind);
    uint16_t deleted = flk_names_intern("struct x", "many", "delete");
    CHECK(deleted != other);
    CHECK_TEXT("delete", flk_names_at(deleted)->release);
    CHECK(flk_names_at(deleted)->release_id != flk_names_at(other)->release_id);
    CHECK(intern_numbered(number - 1) == FLK_NAMES_DISTINCT);
    CHECK(flk_names_intern("int", "calloc", "free") == 1);
}

// Too many kinds and releases: there is no number left.
static void test_last_limit_gives_no_id(void) {
    char kind[20];
    for (uint32_t i = 0; flk_names_count() < FLK_TYPES_MAX; i++) {
        snprintf(kind, sizeof kind, "kind %u", i);
        CHECK(flk_names_intern("int", kind, "free") == flk_names_count());
    }
    CHECK(flk_names_intern("int", "one more", "free") == 0);
    CHECK(flk_names_intern("int", kind, "free") == FLK_TYPES_MAX);
}

int main(void) {
    RUN(test_same_triple_same_id);
    RUN(test_texts_come_back);
    RUN(test_equal_releases_have_one_id);
    RUN(test_unknown_ids_have_texts);
    RUN(test_long_texts_are_cut);
    RUN(test_long_texts_are_cut_between_characters);
    RUN(test_failed_mapping_gives_no_id);
    RUN(test_threads_get_one_id);
    if (!is_slow_tool()) {
        RUN(test_limit_is_met_without_harm);
        RUN(test_last_limit_gives_no_id);
    }
    CHECK(flk_names_check() && flk_arena_check());
    return DONE();
}

// test_libc_objects.c - structures and formats of the C library.         SPDX-License-Identifier: MIT
#include "hooks/libc_objects.h"

#include "base/platform.h"

#include <glob.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "check.h"

#ifdef FLK_HAS_ELF
enum { FOUND_MAX = 8 };
static struct {
    int count;
    uintptr_t blocks[FOUND_MAX];
    uint64_t bytes[FOUND_MAX];
} found;

static void note(uintptr_t block, uint64_t bytes, void *context) {
    CHECK(context == &found && found.count < FOUND_MAX);
    found.blocks[found.count] = block;
    found.bytes[found.count++] = bytes;
}

// Reads the text and asks which blocks were made.
static int scan(const char *text, const char *format, ...) {
    va_list list, before;
    va_start(list, format);
    va_copy(before, list);
    int assigned = vsscanf(text, format, list);
    found.count = 0;
    flk_libc_objects_scanned(format, &before, assigned, note, &found);
    va_end(before);
    va_end(list);
    return assigned;
}

static bool is_found(int i, const void *block, uint64_t bytes) {
    return found.blocks[i] == (uintptr_t)block && found.bytes[i] == bytes;
}

static void test_blocks_of_a_format(void) {
    char *a = NULL, *b = NULL;
    int number, read;
    CHECK(scan("12 ab cde", "%d %ms%n %ms", &number, &a, &read, &b) == 3);
    CHECK(found.count == 2 && is_found(0, a, 3) && is_found(1, b, 4));
    free(a);
    free(b);
    CHECK(scan("x%y ]z]w", "x%%y %m[]z]%*c%3mc", &a, &b) == 1);
    CHECK(found.count == 1 && is_found(0, a, 4));
    free(a);
    CHECK(scan("a b", "%2$ms %1$ms", &a, &b) == 2);
    CHECK(found.count == 2 && is_found(0, b, 2) && is_found(1, a, 2));
    free(a);
    free(b);
}

static void test_letters_and_wide_texts(void) {
    wchar_t *other = NULL;
#ifndef __SANITIZE_ADDRESS__  // its scanf takes the letters for a string
    char *letter = NULL;
    wchar_t *wide = NULL;
    CHECK(scan("abc wide", "%3mc %mls", &letter, &wide) == 2);
    CHECK(found.count == 2 && is_found(0, letter, 1));  // at least
    CHECK(is_found(1, wide, 5 * sizeof(wchar_t)));
    free(letter);
    free(wide);
#endif
    CHECK(scan("wide", "%*ms%mS", &other) <= 0 && found.count == 0);
    CHECK(scan("wide", "%10mS", &other) == 1 && found.count == 1);
    CHECK(is_found(0, other, 5 * sizeof(wchar_t)));
    free(other);
}

static void test_what_was_not_assigned_has_no_block(void) {
    char *a = NULL, *b = (char *)1;
    char text[10];
    int number = 0;
    CHECK(scan("one", "%ms %d %ms", &a, &number, &b) == 1);
    CHECK(found.count == 1 && is_found(0, a, 4));
    free(a);
    CHECK(scan("", "%ms", &a) == EOF && found.count == 0);
    CHECK(scan("7 m", "%d %9s", &number, text) == 2 && found.count == 0);
}

// The parser stays inside the text whatever stands in it.
static void test_broken_formats(void) {
    static const char *const formats[] = {"%",    "%m",   "%[",  "%m[",
                                          "%m[^", "%m[]", "%1$", "%99999999999",
                                          "%*",   "%ml",  "m%",  "%5"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        char *copy = strdup(formats[i]);
        CHECK(copy != NULL);
        CHECK(scan("", copy, NULL, NULL) <= 0 && found.count == 0);
        free(copy);
    }
}

static void test_blocks_of_structures(void) {
    glob_t paths;
    CHECK(glob("/proc/self/stat*", 0, NULL, &paths) == 0);
    uintptr_t at = (uintptr_t)&paths;
    CHECK(flk_libc_objects_block(FLK_SIZES_GLOB, at) ==
          (uintptr_t)paths.gl_pathv);
    CHECK(flk_libc_objects_bytes(FLK_SIZES_GLOB, at) ==
          (paths.gl_pathc + 1) * sizeof(char *));
    globfree(&paths);
    regex_t expression;
    CHECK(regcomp(&expression, "a(b|c)", REG_EXTENDED) == 0);
    at = (uintptr_t)&expression;
#ifdef __GLIBC__
    CHECK(flk_libc_objects_block(FLK_SIZES_REGEX, at) ==
          *(uintptr_t *)&expression);
    CHECK(flk_libc_objects_bytes(FLK_SIZES_REGEX, at) >= 64);
#endif
    regfree(&expression);
    CHECK(flk_libc_objects_block(FLK_SIZES_FIRST, 0x1000) == 0x1000);
}

int main(void) {
    RUN(test_blocks_of_a_format);
    RUN(test_letters_and_wide_texts);
    RUN(test_what_was_not_assigned_has_no_block);
    RUN(test_broken_formats);
    RUN(test_blocks_of_structures);
    return DONE();
}
#else
int main(void) { return 0; }
#endif

// test_cfi.c - tables of functions: what is understood, and that broken ones do no harm.  SPDX-License-Identifier: MIT
#include <link.h>

#include "elf/cfi.h"
#include "elf/loaded.h"
#include "support.h"

// A function of an object that has unwind tables. musl's C library has none.
#ifdef __GLIBC__
#define KNOWN ((uintptr_t)qsort)
#else
#define KNOWN ((uintptr_t)flk_cfi_find)
#endif

// The tables of that object, and a copy of them to be broken. They are counted
// from where they stand, so the copy tells of functions that far away.
static struct {
    flk_loaded loaded;
    uint64_t bytes;  // from the header to the end of its segment
    char *copy;
} tables;

static int find_segment(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *one = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + one->p_vaddr;
        if (one->p_type == PT_LOAD && tables.loaded.header >= begin &&
            tables.loaded.header < begin + one->p_memsz)
            tables.bytes = begin + one->p_memsz - tables.loaded.header;
    }
    return 0;
}

static void begin(void) {
    flk_loaded_start();
    CHECK(flk_loaded_at(KNOWN, &tables.loaded));
    CHECK(tables.loaded.header != 0);
    dl_iterate_phdr(find_segment, NULL);
    CHECK(tables.bytes > 4096);
    tables.copy = malloc(tables.bytes);
    memcpy(tables.copy, (const void *)tables.loaded.header, tables.bytes);
}

static bool find(uintptr_t address, flk_cfi_rule *out) {
    return flk_cfi_find(tables.loaded.header, tables.loaded.begin,
                        tables.loaded.end, address, out);
}

static bool find_in_copy(uintptr_t address, flk_cfi_rule *out) {
    uintptr_t copy = (uintptr_t)tables.copy;
    return flk_cfi_find(copy, copy, copy + tables.bytes,
                        address - tables.loaded.header + copy, out);
}

static uint32_t function_count(void) {
    uint32_t count;
    memcpy(&count, tables.copy + 8, sizeof count);
    return count;
}

static uintptr_t function_at(uint32_t i) {
    int32_t away;
    memcpy(&away, tables.copy + 12 + 8 * (size_t)i, sizeof away);
    return tables.loaded.header + (uintptr_t)(intptr_t)away;
}

#if defined(__aarch64__)
// The return address is in x30: a rule names no word of the stack, so there is
// none. A function that calls another one has saved it before.
static void test_before_the_first_instruction_nothing_is_saved(void) {
    flk_cfi_rule rule;
    CHECK(!find(KNOWN, &rule));
    bool is_saved = false;
    for (uintptr_t at = KNOWN; at < KNOWN + 64; at += 4)
        if (find(at, &rule)) {
            is_saved = true;
            CHECK(rule.return_from != FLK_CFI_SAME && rule.cfa_offset > 0);
        }
    CHECK(is_saved);
}

// A function that saves nothing, or only moves its stack pointer, is a leaf.
static void test_most_functions_are_understood(void) {
    uint32_t understood = 0, count = function_count();
    for (uint32_t i = 0; i + 1 < count; i++) {
        flk_cfi_rule rule;
        uintptr_t at = function_at(i);
        while (at < function_at(i + 1) && !find(at, &rule))
            at += 4;
        understood += at < function_at(i + 1);
    }
    fprintf(stderr, "understood: %u of %u functions\n", understood, count);
    CHECK(understood > count / 2);
}
#else
static void test_before_the_first_instruction_nothing_is_saved(void) {
    flk_cfi_rule rule;
    CHECK(find(KNOWN, &rule));
    CHECK(rule.cfa_from == FLK_CFI_SP && rule.cfa_offset == 8);
    CHECK(rule.return_from == FLK_CFI_CFA && rule.return_offset == -8);
    CHECK(rule.fp_from == FLK_CFI_SAME);
}

static void test_most_functions_are_understood(void) {
    uint32_t understood = 0, count = function_count();
    for (uint32_t i = 0; i < count; i++) {
        flk_cfi_rule rule;
        understood += find(function_at(i), &rule);
    }
    fprintf(stderr, "understood: %u of %u functions\n", understood, count);
    CHECK(understood > count / 100 * 99);
}
#endif

static void test_a_copy_tells_the_same(void) {
    for (uint32_t i = 0; i < function_count(); i += 7) {
        flk_cfi_rule one = {0}, other = {0};
        bool is_there = find(function_at(i), &one);
        CHECK(is_there == find_in_copy(function_at(i), &other));
        CHECK(!is_there || memcmp(&one, &other, sizeof one) == 0);
    }
}

static void test_addresses_of_no_function_are_not_found(void) {
    flk_cfi_rule rule;
    CHECK(!find(tables.loaded.begin, &rule));
    CHECK(!find(tables.loaded.end + 4096, &rule));
    CHECK(!find(0, &rule) && !find(UINTPTR_MAX, &rule));
    CHECK(!flk_cfi_find(0, 0, 0, 1, &rule));
}

// Each read is checked against the range: a sanitizer would tell.
static void test_broken_tables_are_never_read_beyond(void) {
    uint64_t random = 2463534242;
    int rounds = few_or_many(300, 20000, 60000);
    uint32_t count = function_count() < 4000 ? function_count() : 4000;
    for (int i = 0; i < rounds; i++) {
        enum { CHANGES = 3 };
        uint64_t places[CHANGES];
        for (int k = 0; k < CHANGES; k++) {
            // Often the first bytes, and the lengths in them.
            uint64_t range = k == 0 && i % 8 == 0 ? 64 : tables.bytes;
            places[k] = random_next(&random) % range;
            tables.copy[places[k]] = (char)random_next(&random);
        }
        flk_cfi_rule rule;
        for (int k = 0; k < 20; k++)
            find_in_copy(function_at((uint32_t)(random_next(&random) % count)) +
                             k,
                         &rule);
        for (int k = 0; k < CHANGES; k++)
            tables.copy[places[k]] =
                ((const char *)tables.loaded.header)[places[k]];
    }
}

static void test_cut_tables_are_never_read_beyond(void) {
    uint64_t random = 88675123;
    for (uint64_t bytes = 0; bytes < 4096; bytes += 3) {
        char *cut = malloc(bytes + 1);
        memcpy(cut, tables.copy, bytes);
        uintptr_t at = (uintptr_t)cut;
        flk_cfi_rule rule;
        CHECK(!flk_cfi_find(at, at, at + bytes,
                            at + random_next(&random) % 65536, &rule) ||
              bytes > 64);
        flk_cfi_header_bytes(at, at + bytes);
        free(cut);
    }
}

int main(void) {
    RUN(begin);
    RUN(test_before_the_first_instruction_nothing_is_saved);
    RUN(test_most_functions_are_understood);
    RUN(test_a_copy_tells_the_same);
    RUN(test_addresses_of_no_function_are_not_found);
    RUN(test_broken_tables_are_never_read_beyond);
    RUN(test_cut_tables_are_never_read_beyond);
    free(tables.copy);
    return DONE();
}

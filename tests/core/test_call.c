// test_call.c - the slot that a call goes through; imports; written pages.    SPDX-License-Identifier: MIT
#include <sys/mman.h>

#include "elf/call.h"
#include "elf/loaded.h"
#include "elf/maps.h"
#include "elf/pages.h"
#include "libraries.h"

#ifdef FLK_HAS_ELF
static const char callee[] =
    "void *here(void) { return __builtin_return_address(0); }\n";
static const char caller[] =
    "extern void *here(void);\n"
    "static __attribute__((noinline)) void *own(void)\n"
    "{ return __builtin_return_address(0); }\n"
    "void *by_slot(void) { void *p = here(); __asm__(\"\"); return p; }\n"
    "void *by_pointer(void *(*volatile f)(void))\n"
    "{ void *p = f(); __asm__(\"\"); return p; }\n"
    "#include <stdlib.h>\nvoid *take(void) { return malloc(1); }\n"
    "void *direct(void) { void *p = own(); __asm__(\"\"); return p; }\n";

static uintptr_t address_of_here;

// What the slot of the call before this address holds; 0: there is none.
static uintptr_t called_before(uintptr_t return_address) {
    flk_loaded object;
    flk_elf elf;
    CHECK(flk_loaded_at(return_address, &object));
    CHECK(flk_loaded_open(&object, &elf));
    const uintptr_t *slot = flk_call_slot(&elf, return_address);
    return slot ? *slot : 0;
}

static void check_library(const char *name, const char *flags) {
    void *lib = opened(library(name, caller, flags), RTLD_NOW);
    uintptr_t (*here)(void) = (uintptr_t (*)(void))address_of_here;
#if defined(__x86_64__)
    CHECK(called_before(CALL(lib, "by_slot")()) == address_of_here);
#endif
    CHECK(called_before(CALL(lib, "by_pointer")(here)) == 0);
    CHECK(called_before(CALL(lib, "direct")()) == 0);
}

static void test_slots_of_calls(void) {
    check_library("plt", "-O1 -fplt");
    check_library("noplt", "-O1 -fno-plt");
    check_library("now", "-O2 -Wl,-z,now");
#if defined(__x86_64__)
    check_library("cet", "-O2 -fcf-protection=full -Wl,-z,ibtplt");
#endif
}

// Bytes that are no code are not read.
static void test_addresses_outside_code(void) {
    static uintptr_t data[4];
    flk_loaded object;
    flk_elf elf;
    CHECK(flk_loaded_at((uintptr_t)check_library, &object));
    CHECK(flk_loaded_open(&object, &elf));
    CHECK(flk_call_slot(&elf, (uintptr_t)&data[2]) == NULL);
    CHECK(flk_call_slot(&elf, 8) == NULL);
    CHECK(flk_call_slot(&elf, elf.whole.begin) == NULL);
}

static void note_libc(const char *name, void *is_found) {
    *(bool *)is_found |= strncmp(name, "libc.", 5) == 0;
}

static void test_symbols_and_needed_objects(void) {
    flk_loaded object;
    flk_elf elf;
    bool needs_libc = false;
    void *lib = opened(library("plt", caller, "-O1"), RTLD_NOW);
    CHECK(flk_loaded_at((uintptr_t)function_of(lib, "direct"), &object));
    CHECK(flk_loaded_open(&object, &elf));
    flk_elf_each_needed(&elf, note_libc, &needs_libc);
    CHECK(needs_libc);
    CHECK(flk_elf_mentions(&elf, "her") && flk_elf_mentions(&elf, "direct"));
    CHECK(!flk_elf_mentions(&elf, "heres") && !flk_elf_mentions(&elf, "own"));
}

static void test_written_pages(void) {
    static flk_pages pages;
    size_t page = flk_platform_page_bytes(), count = 3 * FLK_PAGES_AT_ONCE;
    char *room = mmap(NULL, count * page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(room != MAP_FAILED);
    madvise(room, count * page, MADV_NOHUGEPAGE);
    size_t written[] = {0, 7, FLK_PAGES_AT_ONCE, 2 * FLK_PAGES_AT_ONCE + 5};
    for (size_t i = 0; i < 4; i++)
        room[written[i] * page] = 1;
    flk_pages_open(&pages);
    bool is_known = pages.fd >= 0;
    for (size_t i = 0; i < 4; i++) {
        uintptr_t at = (uintptr_t)room + written[i] * page;
        CHECK(flk_pages_may_be_written(&pages, at + 100));
        CHECK(flk_pages_may_be_written(&pages, at + page) == !is_known);
    }
    flk_pages_close(&pages);
    CHECK(flk_pages_may_be_written(&pages, (uintptr_t)room + page));
    munmap(room, count * page);
}

static void count_range(const flk_maps_range *range, void *count) {
    CHECK(range->begin < range->end);
    *(int *)count +=
        range->begin <= (uintptr_t)count && (uintptr_t)count < range->end;
}

static void test_all_mappings_are_visited(void) {
    int count = 0;
    CHECK(flk_maps_each(count_range, &count) && count == 1);
}

int main(void) {
    start();
    void *lib =
        opened(library("callee", callee, "-O1"), RTLD_GLOBAL | RTLD_NOW);
    address_of_here = (uintptr_t)function_of(lib, "here");
    RUN(test_slots_of_calls);
    RUN(test_addresses_outside_code);
    RUN(test_symbols_and_needed_objects);
    RUN(test_written_pages);
    RUN(test_all_mappings_are_visited);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif

// test_elf.c - the reader against what the loader itself says.               SPDX-License-Identifier: MIT
#include "elf/elf.h"

#include <dlfcn.h>
#include <link.h>

#include "check.h"

#ifdef FLK_HAS_ELF
static struct dl_phdr_info libc_info, own_info;

// glibc has no name for the program, musl has.
static bool is_own(const struct dl_phdr_info *info) {
    static int here;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            (uintptr_t)&here - begin < info->dlpi_phdr[i].p_memsz)
            return true;
    }
    return false;
}

static int note(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size;
    (void)unused;
    if (is_own(info))
        own_info = *info;
    else if (strstr(info->dlpi_name, "libc.so") ||
             strstr(info->dlpi_name, "ld-musl"))
        libc_info = *info;
    return 0;
}

static void open_one(flk_elf *out, const struct dl_phdr_info *info) {
    CHECK(
        flk_elf_open(out, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum));
}

static void test_segments_hold_their_own_bytes_only(void) {
    flk_elf elf;
    open_one(&elf, &own_info);
    static int here = 1;
    CHECK(flk_elf_holds(&elf, (uintptr_t)&here, sizeof here));
    CHECK(flk_elf_is_code(&elf,
                          (uintptr_t)test_segments_hold_their_own_bytes_only));
    CHECK(!flk_elf_is_code(&elf, (uintptr_t)&here));
    CHECK(!flk_elf_holds(&elf, (uintptr_t)&here, SIZE_MAX));
    CHECK(!flk_elf_holds(&elf, elf.whole.end, 1));
    CHECK(!flk_elf_holds(&elf, 0, 1));
}

static void test_names_out_of_bounds_are_empty(void) {
    flk_elf elf;
    open_one(&elf, &libc_info);
    CHECK_TEXT("", flk_elf_name(&elf, elf.symbol_count));
    CHECK_TEXT("", flk_elf_name(&elf, SIZE_MAX));
}

typedef struct search {
    const flk_elf *elf;
    const char *name;
    uintptr_t value;
    size_t count;
} search;

static void look_for(const flk_elf_export *one, void *context) {
    search *s = context;
    if (strcmp(one->name, s->name) == 0 && one->is_default) {
        s->value = s->elf->base + one->symbol->st_value;
        s->count++;
    }
}

static void test_exports_are_those_dlsym_finds(void) {
    static const char *const names[] = {"malloc", "free", "realpath", "strdup",
                                        "getdelim"};
    flk_elf elf;
    open_one(&elf, &libc_info);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        search s = {.elf = &elf, .name = names[i]};
        flk_elf_each_export(&elf, look_for, &s);
        CHECK(s.count == 1 && flk_elf_defines(&elf, names[i]));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        CHECK(s.value == (uintptr_t)dlsym(RTLD_DEFAULT, names[i]));
#endif
    }
    CHECK(!flk_elf_defines(&elf, "no_such_function"));
}

// Without the hash table of its own it searches, and says the same.
static void test_search_agrees_with_the_hash(void) {
    flk_elf elf, without;
    open_one(&elf, &libc_info);
    without = elf;
    without.gnu_hash = 0;
    CHECK(elf.gnu_hash && flk_elf_defines(&without, "malloc"));
    CHECK(!flk_elf_defines(&without, "no_such_function"));
}

typedef struct tally {
    size_t kinds[3], of_malloc;
    const flk_elf *elf;
} tally;

static void count_slot(const flk_elf_slot *slot, void *context) {
    tally *t = context;
    CHECK(slot->kind <= FLK_ELF_ABSOLUTE && slot->name[0]);
    CHECK(flk_elf_holds(t->elf, (uintptr_t)slot->word, 8));
    t->kinds[slot->kind]++;
    t->of_malloc += strcmp(slot->name, "malloc") == 0;
}

void *(*volatile in_data)(size_t) = malloc;  // an absolute relocation

static void test_slots_are_found(void) {
    flk_elf elf;
    open_one(&elf, &own_info);
    tally t = {.elf = &elf};
    size_t count = flk_elf_each_slot(&elf, count_slot, &t);
    CHECK(count == t.kinds[0] + t.kinds[1] + t.kinds[2]);
    CHECK(t.kinds[FLK_ELF_GLOB_DAT] > 0 && t.of_malloc > 0 && in_data);
}

static void test_relro_is_read_only(void) {
    flk_elf elf;
    open_one(&elf, &libc_info);
    CHECK(elf.relro.begin < elf.relro.end);
    CHECK(!(flk_elf_protection(&elf, elf.relro.begin) & 2));
    CHECK(flk_elf_protection(&elf, (uintptr_t)elf.symbols) & 1);
}

static void test_variables_are_found_by_name_and_size(void) {
    flk_elf elf;
    open_one(&elf, &libc_info);
    CHECK(flk_elf_variable(&elf, "stdout", 8) ==
          dlsym(dlopen(libc_info.dlpi_name, RTLD_LAZY), "stdout"));
    CHECK(flk_elf_variable(&elf, "stdout", 4) == NULL);
    CHECK(flk_elf_variable(&elf, "malloc", 8) == NULL);
    CHECK(flk_elf_variable(&elf, "no_such_variable", 8) == NULL);
}

static void test_no_dynamic_section_is_refused(void) {
    flk_elf elf;
    Elf64_Phdr header = {.p_type = PT_LOAD, .p_flags = PF_R, .p_memsz = 64};
    CHECK(!flk_elf_open(&elf, (uintptr_t)&header, &header, 1));
    CHECK(!flk_elf_open(&elf, 0, NULL, 0));
}

int main(void) {
    dl_iterate_phdr(note, NULL);
    RUN(test_segments_hold_their_own_bytes_only);
    RUN(test_names_out_of_bounds_are_empty);
    RUN(test_exports_are_those_dlsym_finds);
    RUN(test_search_agrees_with_the_hash);
    RUN(test_slots_are_found);
    RUN(test_relro_is_read_only);
    RUN(test_variables_are_found_by_name_and_size);
    RUN(test_no_dynamic_section_is_refused);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif

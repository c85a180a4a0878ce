// test_patch.c - what attach changes in memory, and that end puts it back.   SPDX-License-Identifier: MIT
#include "elf/loaded.h"
#include "hooks/providers.h"
#include "hooks/slots.h"
#include "hooks/stub_table.h"
#include "libraries.h"

#if defined(FLK_HAS_ELF) && !IS_SANITIZED
static const char source[] =
    "#include <stdlib.h>\n"
    "void *take(size_t n) { return malloc(n); }\n"
    "void give(void *p) { free(p); }\n"
    "void *(*pointer)(size_t) = malloc;\n"
    "static void *(*const sealed[])(size_t) = {malloc, valloc};\n"
    "void *by_pointer(size_t n) { return pointer(n); }\n"
    "void *by_sealed(int i, size_t n)\n"
    "{ void *p = (*(void *(*const volatile *)(size_t))&sealed[i])(n);\n"
    "  return p ? p : 0; }\n";

// --- all words that could be changed ------------------------------------
enum { WORDS_MAX = 8192 };
typedef struct copy {
    uintptr_t *words[WORDS_MAX], values[WORDS_MAX];
    size_t count;
    const flk_elf *elf;
} copy;

static void copy_word(copy *c, uintptr_t *word) {
    CHECK(c->count < WORDS_MAX);
    c->words[c->count] = word;
    c->values[c->count++] = *word;
}

static void copy_slot(const flk_elf_slot *slot, void *context) {
    if (flk_functions_named(slot->name) != FLK_FN_COUNT)
        copy_word(context, slot->word);
}

static void copy_export(const flk_elf_export *one, void *context) {
    if (flk_functions_named(one->name) == FLK_FN_COUNT)
        return;
    for (size_t i = 0; i < sizeof(Elf64_Sym) / sizeof(uintptr_t); i++)
        copy_word(context, (uintptr_t *)one->symbol + i);
}

static int copy_object(struct dl_phdr_info *info, size_t size, void *c) {
    (void)size;
    flk_elf elf;
    // Our own are left alone; the loader binds them meanwhile.
    if (info->dlpi_name[0] && flk_elf_open(&elf, info->dlpi_addr,
                                           info->dlpi_phdr, info->dlpi_phnum)) {
        flk_elf_each_slot(&elf, copy_slot, c);
        flk_elf_each_export(&elf, copy_export, c);
    }
    return 0;
}

static size_t changed_since(const copy *c) {
    size_t changed = 0;
    for (size_t i = 0; i < c->count; i++)
        changed += *c->words[i] != c->values[i];
    return changed;
}

// --- protections --------------------------------------------------------
// /proc/self/maps without what is no library's: one line a range.
static void read_protections(char *out, size_t bytes) {
    char line[600], range[100], may[8], file[500];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    size_t used = 0;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%99s %7s %*s %*s %*s %499s", range, may, file) == 3 &&
            strstr(file, ".so"))
            used += (size_t)snprintf(out + used, bytes - used, "%s %s\n", range,
                                     may);
    fclose(maps);
    CHECK(used > 0 && used < bytes - 200);
}

static void test_every_word_is_restored(void) {
    static copy c;
    void *now = opened(library("now", source, "-Wl,-z,now"), RTLD_NOW);
    void *lazy = opened(library("lazy", source, "-Wl,-z,lazy"), RTLD_LAZY);
    attach_to(NULL);  // the C library binds some of its own slots thereby
    flk_attach_end();
    dl_iterate_phdr(copy_object, &c);
    CHECK(c.count > 50);
    attach_to(NULL);
    size_t changed = changed_since(&c);
    flk_attach_figures f = attach_figures();
    CHECK(changed > 20 && f.slots > 8 && f.failed_words == 0);
    flk_attach_end();
    CHECK(changed_since(&c) == 0);
    dlclose(now);
    dlclose(lazy);
}

static void test_protections_are_as_before(void) {
    static char before[65536], during[65536], after[65536];
    void *now = opened(library("now", source, "-Wl,-z,now,-z,relro"), RTLD_NOW);
    read_protections(before, sizeof before);
    attach_to(NULL);
    read_protections(during, sizeof during);
    flk_attach_end();
    read_protections(after, sizeof after);
    CHECK_TEXT(before, during);
    CHECK_TEXT(before, after);
    dlclose(now);
}

static void test_unbound_slots_are_hooked_and_unbound_again(void) {
    static copy c;
    void *lazy = opened(library("lazy2", source, "-Wl,-z,lazy"), RTLD_LAZY);
    uint64_t unbound = attach_figures().unbound_slots;
    dl_iterate_phdr(copy_object, &c);
    attach_to("liblazy2.so");
    CHECK(attach_figures().unbound_slots >= unbound + 2);
    uintptr_t p = CALL(lazy, "take")(50);
    CHECK(size_at(p) == 50);
    CALL(lazy, "give")(p);
    CHECK(!is_live(p));
    flk_attach_end();
    CHECK(changed_since(&c) == 0);
    p = CALL(lazy, "take")(50);
    CHECK(p && !is_live(p));
    CALL(lazy, "give")(p);
    CHECK(changed_since(&c) > 0);  // bound now
    dlclose(lazy);
}

static void test_sealed_pointers_are_patched(void) {
    void *now = opened(library("now", source, "-Wl,-z,now"), RTLD_NOW);
    attach_to("libnow.so");
    uintptr_t p = CALL(now, "by_sealed")(0, 61);
    uintptr_t q = CALL(now, "by_sealed")(1, 62);
    CHECK(size_at(p) == 61 && size_at(q) == 62);
    CHECK_TEXT("valloc", type_at(q));
    CALL(now, "give")(p);
    CALL(now, "give")(q);
    flk_attach_end();
    dlclose(now);
}

static void *of_another_tool(size_t size) {
    (void)size;
    return NULL;
}

static void test_pointers_that_the_program_changed_are_left_alone(void) {
    void *now = opened(library("now", source, ""), RTLD_NOW);
    void **pointer = function_of(now, "pointer");
    void *before = *pointer;
    *pointer = (void *)of_another_tool;
    attach_to(NULL);
    CHECK(*pointer == (void *)of_another_tool);
    CHECK(attach_figures().changed_pointers >= 1);
    CHECK(attach_figures().others_slots == 0);
    CHECK(CALL(now, "by_pointer")(8) == 0);
    *pointer = before;
    attach_to(NULL);
    CHECK(*pointer != before);
    *pointer = (void *)of_another_tool;
    flk_attach_refresh();
    CHECK(attach_figures().retaken_slots == 0);
    flk_attach_end();
    CHECK(*pointer == (void *)of_another_tool);
    dlclose(now);
}

// --- another tool that patches slots -------------------------------------
static uintptr_t *malloc_slot;

static void find_malloc_slot(const flk_elf_slot *slot, void *unused) {
    (void)unused;
    if (strcmp(slot->name, "malloc") == 0 && slot->kind != FLK_ELF_ABSOLUTE)
        malloc_slot = slot->word;
}

static int find_slot_of(struct dl_phdr_info *info, size_t size, void *name) {
    (void)size;
    flk_elf elf;
    if (strstr(info->dlpi_name, name) &&
        flk_elf_open(&elf, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum))
        flk_elf_each_slot(&elf, find_malloc_slot, NULL);
    return 0;
}

// A library whose slot of malloc can be written to.
static void *open_victim(void) {
    void *victim =
        opened(library("victim", source, "-Wl,-z,norelro,-z,now"), RTLD_NOW);
    malloc_slot = NULL;
    dl_iterate_phdr(find_slot_of, "libvictim.so");
    CHECK(malloc_slot != NULL);
    return victim;
}

static void check_victim_is_recorded(void *victim) {
    uintptr_t p = CALL(victim, "take")(50);
    CHECK(size_at(p) == 50);
    CALL(victim, "give")(p);
    CHECK(!is_live(p));
}

static void test_slots_given_back_are_hooked(void) {
    void *victim = open_victim();
    uintptr_t before = *malloc_slot;
    *malloc_slot = (uintptr_t)of_another_tool;
    attach_to("libvictim.so");
    flk_attach_figures f = attach_figures();
    CHECK(*malloc_slot == (uintptr_t)of_another_tool);
    CHECK(f.others_slots == 1 && f.malloc_slots_others == 1);
    CHECK(f.malloc_slots > 1 && f.retaken_slots == 0);
    *malloc_slot = before;
    flk_attach_refresh();  // the loader has loaded nothing since
    CHECK(attach_figures().others_slots == 0);
    check_victim_is_recorded(victim);
    flk_attach_end();
    CHECK(*malloc_slot == before);
    dlclose(victim);
}

static void test_slots_taken_by_another_tool_are_counted(void) {
    void *victim = open_victim();
    attach_to("libvictim.so");
    uintptr_t stub = *malloc_slot;
    *malloc_slot = (uintptr_t)of_another_tool;
    flk_attach_refresh();
    CHECK(*malloc_slot == (uintptr_t)of_another_tool);
    CHECK(attach_figures().others_slots == 1);
    CHECK(attach_figures().retaken_slots == 1);
    *malloc_slot = (uintptr_t)malloc;  // with what the tool has found
    flk_attach_refresh();
    CHECK(*malloc_slot == stub && attach_figures().others_slots == 0);
    check_victim_is_recorded(victim);
    CHECK(attach_figures().retaken_slots == 1);
    flk_attach_end();
    attach_to("libvictim.so");
    CHECK(attach_figures().retaken_slots == 0);
    flk_attach_end();
    dlclose(victim);
}

static void test_an_undisturbed_process_counts_none(void) {
    attach_to(NULL);
    flk_attach_refresh();
    flk_attach_figures f = attach_figures();
    CHECK(f.others_slots == 0 && f.malloc_slots_others == 0);
    CHECK(f.retaken_slots == 0 && f.unwatched_slots == 0);
    CHECK(f.unsettled_slots == 0 && f.providers_left_out == 0);
    CHECK(f.objects_left_out == 0 && f.malloc_slots > 2);
    flk_attach_end();
}

// --- coming and going ---------------------------------------------------
static void test_library_loaded_after_attach(void) {
    const char *path = library("late", source, "");
    attach_to("liblate.so");
    void *late = opened(path, RTLD_NOW);
    flk_attach_refresh();
    uintptr_t p = CALL(late, "take")(70), q = CALL(late, "by_pointer")(71);
    CHECK(size_at(p) == 70 && size_at(q) == 71);
    CALL(late, "give")(p);
    CALL(late, "give")(q);
    CHECK(!is_live(p) && attach_figures().objects_traced == 1);
    flk_attach_end();
    p = CALL(late, "take")(72);
    CHECK(!is_live(p));
    CALL(late, "give")(p);
    dlclose(late);
}

static void test_frees_of_a_later_library_need_no_refresh(void) {
    void *early = opened(library("early", source, ""), RTLD_NOW);
    const char *path = library("later", source, "");
    attach_to("libearly.so");
    uintptr_t p = CALL(early, "take")(70);
    void *later = opened(path, RTLD_NOW);
    CHECK(is_live(p));
    CALL(later, "give")(p);
    CHECK(!is_live(p));
    flk_attach_end();
    dlclose(later);
    dlclose(early);
}

// By its return address, where the C library has _dl_find_object.
static void test_later_library_is_seen_before_a_refresh(void) {
    static const char text[] =
        "#include <stdlib.h>\nvoid *early;\n"
        "__attribute__((constructor)) static void at_load(void)\n"
        "{ early = malloc(73); if (!early) abort(); }\n"
        "void *first(void) { return early; }\n"
        "void *take(size_t n) { void *p = malloc(n); if (!p) abort();\n"
        "  return p; }\n"
        "void give(void *p) { free(p); }\n";
    if (!dlsym(RTLD_DEFAULT, "_dl_find_object"))
        return;
    char path[400];
    strcpy(path, library("other", text, "-Wl,-z,now"));
    const char *traced = library("late_object", text, "-Wl,-z,now");
    attach_to("liblate_object.so");
    void *other = opened(path, RTLD_NOW);
    CHECK(!is_live(CALL(other, "first")()));
    void *late_object = opened(traced, RTLD_NOW);
    uintptr_t p = CALL(late_object, "take")(74);
    CHECK(size_at(CALL(late_object, "first")()) == 73 && size_at(p) == 74);
    flk_attach_refresh();
    uintptr_t q = CALL(late_object, "take")(75);
    CHECK(size_at(q) == 75);
    CALL(late_object, "give")(p);
    CALL(late_object, "give")(q);
    CALL(late_object, "give")(CALL(late_object, "first")());
    CHECK(live_in(0) == 0);
    flk_attach_end();
    dlclose(late_object);
    dlclose(other);
}

// The return address of a tail call lies in the caller of the library. From
// the second call on the slot decides.
static void test_calls_at_the_end_of_a_later_library(void) {
    static const char text[] = "#include <stdlib.h>\n"
                               "void *take(size_t n) { return malloc(n); }\n"
                               "void give(void *p) { free(p); }\n";
    char path[400];
    strcpy(path, library("jumper", text, "-O2 -Wl,-z,now"));
    const char *other_path = library("otherjumper", text, "-O2 -Wl,-z,now");
    attach_to("libjumper.so");
    void *other = opened(other_path, RTLD_NOW);
    void *jumper = opened(path, RTLD_NOW);
    uintptr_t first = CALL(jumper, "take")(73);
    uintptr_t second = CALL(jumper, "take")(74);
    uintptr_t others = CALL(other, "take")(75);
    CHECK(!flk_loaded_is_watched() || size_at(second) == 74);
    CHECK(!is_live(others));
    CALL(jumper, "give")(first);
    CALL(jumper, "give")(second);
    CALL(other, "give")(others);
    CHECK(live_in(0) == 0);
    flk_attach_end();
    dlclose(jumper);
    dlclose(other);
}

static void test_unloaded_and_loaded_again(void) {
    char path[400];
    strcpy(path, library("again", source, ""));
    attach_to("libagain.so");
    for (int i = 0; i < 5; i++) {
        void *again = opened(path, RTLD_NOW);
        flk_attach_refresh();
        uintptr_t p = CALL(again, "take")(80);
        CHECK(size_at(p) == 80);
        CALL(again, "give")(p);
        CHECK(dlclose(again) == 0);
        CHECK(attach_figures().objects_traced <= 1);
    }
    flk_attach_refresh();
    CHECK(attach_figures().objects_traced == 0);
    flk_attach_end();
}

static void test_refresh_does_nothing_without_news(void) {
    attach_to(NULL);
    flk_attach_refresh();  // a slot may just have been bound
    uint64_t passes = attach_figures().passes;
    flk_attach_refresh();
    CHECK(attach_figures().passes == passes);
    flk_attach_end();
    flk_attach_refresh();
    flk_attach_end();
}

static size_t mapped_pages(void) {
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return pages;
}

static void test_cycles_leak_nothing(void) {
    static copy c;
    void *now = opened(library("now", source, ""), RTLD_NOW);
    int cycles = few_or_many(10, 0, 200);
    attach_to(NULL);
    flk_attach_end();
    dl_iterate_phdr(copy_object, &c);
    uint64_t own = self_figures().bytes;
    size_t pages = 0;
    for (int i = 0; i < cycles; i++) {
        attach_to(i % 2 ? NULL : "libnow.so");
        uintptr_t p = CALL(now, "take")(90);
        CHECK(is_live(p));
        CALL(now, "give")(p);
        flk_attach_end();
        if (i == cycles / 10)
            pages = mapped_pages();
    }
    CHECK(self_figures().bytes == own || pages);
    CHECK(is_slow_tool() || mapped_pages() <= pages);
    CHECK(changed_since(&c) == 0 && flk_tracker_check());
    dlclose(now);
}

// --- many allocators ----------------------------------------------------
static const char own_malloc[] =
    "#include <stddef.h>\nvoid *malloc(size_t n) { return 0; }\n"
    "void free(void *p) {}\n";
static const char own_new[] =
    "#include <stdlib.h>\nvoid *_Znwm(size_t n) { return malloc(n); }\n"
    "void _ZdlPv(void *p) { free(p); }\n"
    "void *take(size_t n) { return _Znwm(n); }\n"
    "void give(void *p) { _ZdlPv(p); }\n";
enum { COPIES = FLK_PROVIDERS_MAX + 2 };

static void open_copies(void **handles, const char *name, const char *text) {
    for (int i = 0; i < COPIES; i++) {
        char numbered[20];
        snprintf(numbered, sizeof numbered, "%s%d", name, i);
        handles[i] = opened(library(numbered, text, ""), RTLD_NOW);
    }
}

static void close_copies(void **handles) {
    for (int i = 0; i < COPIES; i++)
        dlclose(handles[i]);
}

static void test_too_many_allocators_are_refused(void) {
    void *handles[COPIES];
    char reason[100] = "";
    flk_attach_options options = {.rule_count = 0};
    open_copies(handles, "own", own_malloc);
    CHECK(flk_attach_begin(&options, reason, sizeof reason) == -1);
    CHECK(strstr(reason, "define malloc") && !attach_figures().attached);
    CHECK(attach_figures().providers_left_out >= 2);
    close_copies(handles);
    attach_to(NULL);
    flk_attach_end();
}

static void test_too_many_allocators_later_are_counted(void) {
    void *handles[COPIES];
    attach_to(NULL);
    CHECK(attach_figures().providers_left_out == 0);
    open_copies(handles, "own", own_malloc);
    flk_attach_refresh();
    CHECK(attach_figures().providers_left_out >= 2);
    close_copies(handles);
    flk_attach_refresh();
    CHECK(attach_figures().providers_left_out == 0);
    flk_attach_end();
}

// Operators for which there is no room are seen by their calls of malloc.
static void test_many_own_operators_are_no_harm(void) {
    void *handles[COPIES];
    open_copies(handles, "new", own_new);
    attach_to("libnew*.so");
    uint64_t missed = self_figures().missed_frees;
    for (int i = 0; i < COPIES; i++) {
        uint64_t live = live_in(0);
        uintptr_t p = CALL(handles[i], "take")(30);
        CHECK(size_at(p) == 30 && live_in(0) == live + 1);
        CALL(handles[i], "give")(p);
        CHECK(live_in(0) == live);
    }
    CHECK(attach_figures().mismatched_frees == 0);
    CHECK(self_figures().missed_frees == missed);
    flk_attach_end();
    close_copies(handles);
}

int main(void) {
    start();
    RUN(test_every_word_is_restored);
    RUN(test_protections_are_as_before);
    RUN(test_unbound_slots_are_hooked_and_unbound_again);
    RUN(test_sealed_pointers_are_patched);
    RUN(test_pointers_that_the_program_changed_are_left_alone);
    RUN(test_slots_given_back_are_hooked);
    RUN(test_slots_taken_by_another_tool_are_counted);
    RUN(test_an_undisturbed_process_counts_none);
    RUN(test_library_loaded_after_attach);
    RUN(test_frees_of_a_later_library_need_no_refresh);
    RUN(test_later_library_is_seen_before_a_refresh);
    RUN(test_calls_at_the_end_of_a_later_library);
    RUN(test_unloaded_and_loaded_again);
    RUN(test_refresh_does_nothing_without_news);
    RUN(test_cycles_leak_nothing);
    RUN(test_too_many_allocators_are_refused);
    RUN(test_too_many_allocators_later_are_counted);
    RUN(test_many_own_operators_are_no_harm);
    RUN(test_everything_is_sound);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif

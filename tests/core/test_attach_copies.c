// test_attach_copies.c - pointers that programs copied to their variables.   SPDX-License-Identifier: MIT
#include <sys/mman.h>
#include <sys/resource.h>

#include "elf/pages.h"
#include "libraries.h"

#if !IS_SANITIZED
static const char source[] =
    "#include <dlfcn.h>\n#include <stdlib.h>\n#include <string.h>\n"
    "static struct { void *(*take)(size_t); void (*give)(void *);\n"
    "  char *(*copied)(const char *); void *(*resized)(void *, size_t); } by;\n"
    "char room[1 << 28];\n"  // 256 MB that nothing touches
    "static void *(*guarded[4096])(size_t)\n"
    "  __attribute__((aligned(4096)));\n"
    "void *guarded_page(void) { return guarded; }\n"
    "void copy(void) { by.take = malloc; by.give = free;\n"
    "  by.copied = strdup; by.resized = realloc; }\n"
    "void look_up(void) { by.take = (void *(*)(size_t))dlsym(RTLD_DEFAULT,\n"
    "  \"malloc\"); by.give = (void (*)(void *))dlsym(RTLD_DEFAULT,\n"
    "  \"free\"); }\n"
    "void *take(size_t n) { return by.take(n); }\n"
    "void give(void *p) { by.give(p); }\n"
    "char *copied(const char *s) { return by.copied(s); }\n"
    "void *resized(void *p, size_t n) { return by.resized(p, n); }\n"
    "void *pointer(void) { return by.take; }\n"
    "void set(void *f) { by.take = (void *(*)(size_t))f; }\n"
    "void *address(void) { return (void *)malloc; }\n"
    "void write_often(void *(*f)(size_t), void *(*g)(size_t), long n)\n"
    "{ for (long i = 0; i < n; i++)\n"
    "    __atomic_store_n(&by.take, i & 1 ? f : g, __ATOMIC_RELAXED); }\n";

static void *a, *b;  // two libraries of that source

static void test_copies_are_recorded(void) {
    CALL(a, "copy")();
    uintptr_t before = CALL(a, "pointer")();
    attach_to("liba.so");
    CHECK(attach_figures().copied_pointers >= 4);
    uintptr_t p = CALL(a, "take")(24), q = CALL(a, "copied")("text");
    CHECK(size_at(p) == 24 && size_at(q) == 5);
    CHECK_TEXT("strdup", type_at(q));
    p = CALL(a, "resized")(p, 5000);
    CHECK(size_at(p) == 5000);
    CALL(a, "give")(p);
    CALL(a, "give")(q);
    CHECK(!is_live(p) && !is_live(q));
    flk_attach_end();
    CHECK(CALL(a, "pointer")() == before);
    p = CALL(a, "take")(24);
    CHECK(!is_live(p));
    CALL(a, "give")(p);
}

// A copy of free makes false leaks if it is missed.
static void test_copies_of_others_free_and_do_not_record(void) {
    CALL(b, "copy")();
    uintptr_t before = CALL(b, "pointer")();
    attach_to("liba.so");
    uintptr_t p = CALL(a, "take")(24), q = CALL(b, "take")(25);
    CHECK(is_live(p) && !is_live(q));
    CHECK(CALL(b, "pointer")() == before);
    CALL(b, "give")(p);
    CHECK(!is_live(p));
    CALL(b, "give")(q);
    flk_attach_end();
}

// A stub of one attachment is not left for the next one.
static void test_copies_made_while_attached(void) {
    uintptr_t original = CALL(b, "pointer")();
    attach_to(NULL);
    CALL(b, "look_up")();
    CHECK(CALL(b, "pointer")() != original);
    uintptr_t p = CALL(b, "take")(24);
    CHECK(size_at(p) == 24);
    CALL(b, "give")(p);
    flk_attach_end();
    CHECK(CALL(b, "pointer")() == original);
    attach_to("libb.so");
    CALL(b, "copy")();
    attach_to("liba.so");  // the options are replaced
    p = CALL(b, "take")(24);
    CHECK(!is_live(p));
    CALL(b, "give")(p);
    flk_attach_end();
    CHECK(CALL(b, "pointer")() == original);
}

static void *other_malloc(size_t size) { return calloc(1, size); }

// What the program has put there since is its own.
static void test_detach_leaves_other_pointers(void) {
    attach_to("liba.so");
    CALL(a, "set")(other_malloc);
    flk_attach_end();
    CHECK(CALL(a, "pointer")() == (uintptr_t)other_malloc);
    CALL(a, "copy")();
}

// A program may take the rights of pages of its data away.
static void test_guard_pages_are_not_read(void) {
    size_t page = flk_platform_page_bytes();
    char *guard = (char *)CALL(a, "guarded_page")();
    memset(guard, 1, 2 * page);
    *(uintptr_t *)guard = CALL(a, "address")();
    CHECK(mprotect(guard, page, PROT_NONE) == 0);
    attach_to("liba.so");
    flk_attach_end();
    CHECK(mprotect(guard, page, PROT_READ | PROT_WRITE) == 0);
    CHECK(*(uintptr_t *)guard == CALL(a, "address")());
}

static long resident_kb(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_maxrss;
}

// 256 MB of variables that were never written are not read.
static void test_untouched_pages_stay_untouched(void) {
    static flk_pages pages;
    flk_pages_open(&pages);
    bool is_known = pages.fd >= 0;
    uintptr_t room = (uintptr_t)function_of(a, "room");
    *(char *)room = 1;
    CHECK(flk_pages_may_be_written(&pages, room));
    if (is_known)
        CHECK(!flk_pages_may_be_written(&pages, room + (1 << 27)));
    flk_pages_close(&pages);
    long before = resident_kb();
    attach_to("liba.so");
    flk_attach_end();
    CHECK(resident_kb() - before < 100000);
}

// A writer beside attach: the word holds what it stored last, or its hook.
static void *write_often(void *pointers) {
    uintptr_t *two = pointers;
    CALL(a, "write_often")(two[0], two[1], (long)two[2]);
    return NULL;
}

static void test_a_word_that_is_written_meanwhile(void) {
    uintptr_t pointers[] = {CALL(a, "address")(), (uintptr_t)other_malloc,
                            (uintptr_t)few_or_many(100000, 1000000, 10000000)};
    for (int i = 0; i < few_or_many(3, 10, 50); i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, write_often, pointers);
        attach_to("liba.so");
        flk_attach_end();
        pthread_join(thread, NULL);
        CHECK(CALL(a, "pointer")() == pointers[0]);
    }
    CALL(a, "copy")();
}

int main(void) {
    start();
    a = opened(library("a", source, "-ldl"), RTLD_NOW);
    b = opened(library("b", source, "-ldl"), RTLD_NOW);
    RUN(test_copies_are_recorded);
    RUN(test_copies_of_others_free_and_do_not_record);
    RUN(test_copies_made_while_attached);
    RUN(test_detach_leaves_other_pointers);
    RUN(test_guard_pages_are_not_read);
    RUN(test_untouched_pages_stay_untouched);
    RUN(test_a_word_that_is_written_meanwhile);
    RUN(test_everything_is_sound);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif

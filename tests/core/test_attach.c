// test_attach.c - what is recorded of which library, and what is not.        SPDX-License-Identifier: MIT
#include "libraries.h"

static const char source[] =
    "#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\n"
    "#include <malloc.h>\n"
    "void *take(size_t n) { return malloc(n); }\n"
    "void give(void *p) { free(p); }\n"
    "void *zeroed(size_t a, size_t b) { return calloc(a, b); }\n"
    "void *resized(void *p, size_t n) { return realloc(p, n); }\n"
    "void *resized_array(void *p, size_t a, size_t b)\n"
    "{ return reallocarray(p, a, b); }\n"
    "void *aligned(size_t a, size_t n) { return aligned_alloc(a, n); }\n"
    "int placed(void **p, size_t a, size_t n)\n"
    "{ return posix_memalign(p, a, n); }\n"
    "char *copied(const char *s) { return strdup(s); }\n"
    "char *printed(int n) { char *s = 0;\n"
    "  return asprintf(&s, \"%d %.1f %s\", n, 2.5, \"x\") < 0 ? 0 : s; }\n"
    "char *real(void) { return realpath(\"/\", 0); }\n"
    "long file(void) { FILE *f = fopen(\"/dev/null\", \"r\");\n"
    "  char *line = 0; size_t n = 0; long k = getline(&line, &n, f);\n"
    "  fclose(f); free(line); return k; }\n"
    "static struct { void *(*take)(size_t); void (*give)(void *); }\n"
    "  table = {malloc, free};\n"
    "void *by_table(size_t n) { return table.take(n); }\n"
    "void give_by_table(void *p) { table.give(p); }\n"
    "#include <sys/mman.h>\n"
    "void *mapped(size_t n) { return mmap(0, n, PROT_READ | PROT_WRITE,\n"
    "  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }\n"
    "int unmapped(void *p, size_t n) { return munmap(p, n); }\n"
    "void *remapped(void *p, size_t n, size_t m)\n"
    "{ return mremap(p, n, m, MREMAP_MAYMOVE); }\n"
    "void *twice(size_t n) { void *p = malloc(n); return p ? p : malloc(1); "
    "}\n";

static void *a, *b;  // two libraries of that source
static void *(*volatile malloc_of_program)(size_t);

static void test_malloc_is_recorded_with_its_size(void) {
    attach_to("liba.so");
    uintptr_t p = CALL(a, "take")(24);
    CHECK(size_at(p) == 24);
    CHECK_TEXT("malloc", type_at(p));
    uintptr_t q = CALL(a, "zeroed")(3, 7);
    CHECK(size_at(q) == 21);
    CHECK_TEXT("calloc", type_at(q));
    CALL(a, "give")(p);
    CALL(a, "give")(q);
    CHECK(!is_live(p) && !is_live(q));
    flk_attach_end();
}

static void test_others_are_silent(void) {
    uint64_t live = live_in(0);
    attach_to("liba.so");
    uintptr_t p = CALL(b, "take")(24);
    void *own = malloc(10);
    CHECK(p && own && live_in(0) == live);
    CALL(b, "give")(p);
    free(own);
    flk_attach_end();
}

static void test_frees_are_seen_everywhere(void) {
    attach_to("liba.so");
    uintptr_t p = CALL(a, "take")(24), q = CALL(a, "by_table")(25);
    uintptr_t r = CALL(a, "take")(26);
    CHECK(is_live(p) && is_live(q) && is_live(r));
    CALL(b, "give")(p);
    CALL(b, "give_by_table")(q);
    r = CALL(b, "resized")(r, 100000);
    CHECK(!is_live(p) && !is_live(q) && size_at(r) == 100000);
    uint64_t foreign = attach_figures().foreign_frees;
    uintptr_t s = CALL(b, "take")(27);
    CALL(b, "give")(s);
    CHECK(attach_figures().foreign_frees == foreign + 1);
    CALL(b, "give")(r);
    flk_attach_end();
}

static void test_pointers_in_data_are_patched(void) {
    attach_to("liba.so");
    uintptr_t p = CALL(a, "by_table")(40);
    CHECK(size_at(p) == 40);
    CALL(a, "give_by_table")(p);
    CHECK(!is_live(p));
    flk_attach_end();
}

static void test_realloc_keeps_identity(void) {
    flk_record first, now;
    attach_to("liba.so");
    uintptr_t p = CALL(a, "resized")(0, 10);
    CHECK(is_recorded(p, &first) && first.size_bytes == 10);
    uintptr_t q = CALL(a, "resized")(p, 1 << 20);
    CHECK(is_recorded(q, &now) && now.sequence == first.sequence);
    CHECK(now.size_bytes == 1 << 20 && (p == q || !is_live(p)));
    q = CALL(a, "resized")(q, 16);
    CHECK(is_recorded(q, &now) && now.size_bytes == 16);
    CHECK(CALL(a, "resized")(q, SIZE_MAX / 2) == 0);
    CHECK(is_recorded(q, &now) && now.size_bytes == 16);
    q = CALL(a, "resized_array")(q, 5, 9);
    CHECK(is_recorded(q, &now) && now.size_bytes == 45);
    CHECK(CALL(a, "resized_array")(q, SIZE_MAX, 9) == 0 && is_live(q));
    CHECK(now.sequence == first.sequence);
    uintptr_t none = CALL(a, "resized")(q, 0);
    CHECK(none ? is_live(none) : !is_live(q));
    CALL(a, "give")(none);
    flk_attach_end();
    CHECK(flk_tracker_check());
}

static void test_aligned_blocks_and_their_errors(void) {
    attach_to("liba.so");
    uintptr_t p = CALL(a, "aligned")(64, 128), q = 7;
    CHECK(size_at(p) == 128);
    uint64_t live = live_in(0);
    CHECK((int)CALL(a, "placed")(&q, 3, 8) != 0);
    CHECK((int)CALL(a, "placed")(&q, 64, SIZE_MAX / 2) != 0);
    CHECK(live_in(0) == live);
    CHECK((int)CALL(a, "placed")(&q, 64, 8) == 0 && size_at(q) == 8);
    CALL(a, "give")(p);
    CALL(a, "give")(q);
    CHECK(live_in(0) == live - 1);
    flk_attach_end();
}

static void test_results_of_libc_are_recorded(void) {
    attach_to("liba.so");
    uintptr_t p = CALL(a, "copied")("hello"), q = CALL(a, "printed")(3);
    uintptr_t r = CALL(a, "real")();
    CHECK(size_at(p) == 6);
    CHECK_TEXT("strdup", type_at(p));
    CHECK(is_live(q) && strcmp((char *)q, "3 2.5 x") == 0);
    CHECK_TEXT("asprintf", type_at(q));
    CHECK(is_live(r));
    CHECK_TEXT("realpath", type_at(r));
    CALL(b, "give")(p);
    CALL(b, "give")(q);
    CALL(b, "give")(r);
    CHECK(!is_live(p) && !is_live(q) && !is_live(r));
    p = CALL(b, "copied")("hello");
    CHECK(!is_live(p));
    CALL(b, "give")(p);
    flk_attach_end();
}

static void test_private_blocks_of_libc_are_silent(void) {
    uint64_t before = scope_figures(0).allocations;
    uint64_t live = live_in(0);
    attach_to("liba.so");
    CALL(a, "file")();  // a stream, which has a buffer, and a line
    CHECK(scope_figures(0).allocations == before + 2);
    CHECK(live_in(0) == live);
    flk_attach_end();
}

// --- functions of libc that do not return --------------------------------
static const char leaving[] =
    "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
    "#include <dirent.h>\n#include <setjmp.h>\n#include <dlfcn.h>\n"
    "static jmp_buf back; static void *kept;\n"
    "static int leave(const struct dirent *d) { longjmp(back, 1); }\n"
    "void scan(void) { struct dirent **list;\n"
    "  if (setjmp(back) == 0) scandir(\"/\", &list, leave, 0); }\n"
    "static ssize_t no_text(void *c, char *to, size_t n) { longjmp(back, 1); "
    "}\n"
    "void read_line(void) { char *line = 0; size_t n = 0;\n"
    "  cookie_io_functions_t io = {.read = no_text};\n"
    "  if (setjmp(back) == 0) getline(&line, &n, fopencookie(0, \"r\", io)); "
    "}\n"
    "static int copy(const struct dirent *d)\n"
    "{ if (!kept) kept = strdup(\"a text\"); return 0; }\n"
    "void *scan_and_copy(void) { struct dirent **list = 0;\n"
    "  scandir(\"/\", &list, copy, 0); free(list); return kept; }\n"
    "char *copied(const char *s) { char *p = strdup(s); return p ? p : 0; }\n"
    "void *by_look_up(size_t n) { void *(*f)(size_t) =\n"
    "  (void *(*)(size_t))dlsym(RTLD_DEFAULT, \"malloc\"); void *p = f(n);\n"
    "  return p ? p : 0; }\n"
    "void *opened_stream(void) { return fopen(\"/dev/null\", \"r\"); }\n"
    "void give(void *p) { free(p); }\n";

static void check_nothing_is_blind(void *lib) {
    uintptr_t p = CALL(lib, "copied")("hello");
    uintptr_t q = CALL(lib, "by_look_up")(33);
    CHECK(size_at(p) == 6 && size_at(q) == 33);
    CHECK_TEXT("malloc", type_at(q));
    CALL(lib, "give")(p);
    CALL(lib, "give")(q);
    CHECK(!is_live(p) && !is_live(q));
    uint64_t live = live_in(0);
    fclose((FILE *)CALL(lib, "opened_stream")());
    CHECK(live_in(0) == live);
}

static void test_functions_of_libc_left_by_longjmp(void) {
    void *lib = opened(library("leaving", leaving, "-O1"), RTLD_NOW);
    attach_to("libleaving.so");
    CALL(lib, "scan")();
    check_nothing_is_blind(lib);
    CALL(lib, "read_line")();
    check_nothing_is_blind(lib);
    uintptr_t p = CALL(lib, "scan_and_copy")();
    CHECK(size_at(p) == 7);
    CHECK_TEXT("strdup", type_at(p));
    CALL(lib, "give")(p);
    flk_attach_end();
    flk_attach_drop();
    dlclose(lib);
}

static void test_pause_honours_frees_only(void) {
    attach_to("liba.so");
    uintptr_t p = CALL(a, "take")(24);
    flk_attach_pause(1);
    CHECK(attach_figures().paused == 1);
    uintptr_t q = CALL(a, "take")(24);
    CHECK(is_live(p) && !is_live(q));
    CALL(a, "give")(p);
    CHECK(!is_live(p));
    flk_attach_pause(0);
    CALL(a, "give")(q);
    p = CALL(a, "take")(24);
    CHECK(is_live(p));
    CALL(a, "give")(p);
    flk_attach_end();
}

static void test_records_are_dropped_after_the_end(void) {
    uintptr_t blocks[500];
    CHECK(flk_attach_drop() == 0);
    attach_to("liba.so");
    for (int i = 0; i < 500; i++)
        blocks[i] = CALL(a, "take")(i + 1);
    flk_attach_end();
    track(0x1000, 8);
    CHECK(live_in(0) == 501 && flk_attach_drop() == 500);
    CHECK(live_in(0) == 1 && flk_tracker_check());
    CHECK(flk_untrack(0x1000, FLK_LAYER_HANDLE, NULL));
    for (int i = 0; i < 500; i++)
        CALL(b, "give")(blocks[i]);
}

static void test_detached_hooks_pass_on(void) {
    attach_to(NULL);
    void *(*kept)(size_t) = function_of(RTLD_DEFAULT, "malloc");
    void (*kept_free)(void *) = function_of(RTLD_DEFAULT, "free");
    flk_attach_end();
    uint64_t live = live_in(0);
    void *p = kept(30);
    CHECK(p && live_in(0) == live);
    kept_free(p);
    CHECK(dlsym(RTLD_DEFAULT, "malloc") != (void *)kept);
}

static void test_selection_may_change_while_attached(void) {
    attach_to("liba.so");
    uintptr_t p = CALL(a, "take")(24);
    attach_to("libb.so");
    uintptr_t q = CALL(a, "take")(24), r = CALL(b, "take")(24);
    CHECK(is_live(p) && !is_live(q) && is_live(r));
    CALL(a, "give")(p);
    CALL(a, "give")(q);
    CALL(a, "give")(r);
    CHECK(!is_live(p) && !is_live(r));
    CHECK(attach_figures().objects_traced == 1);
    flk_attach_end();
}

static void test_whole_process_is_all_but_libc(void) {
    attach_to(NULL);
    uintptr_t p = CALL(a, "take")(24), q = CALL(b, "copied")("abc");
    CHECK(is_live(p) && is_live(q));
    uint64_t live = live_in(0);
    CALL(a, "file")();
    CHECK(live_in(0) == live);
    CALL(b, "give")(p);
    CALL(b, "give")(q);
    flk_attach_end();
}

static void test_looked_up_functions_are_hooked(void) {
    static const char *const caller =
        "#include <dlfcn.h>\n#include <stddef.h>\n"
        "void *take(void *h, size_t n) { void *(*f)(size_t) =\n"
        "  (void *(*)(size_t))dlsym(h, \"malloc\"); void *p = f(n);\n"
        "  return p ? p : 0; }\n"
        "void give(void *h, void *p)\n"
        "{ ((void (*)(void *))dlsym(h, \"free\"))(p); }\n";
    void *c = opened(library("c", caller, ""), RTLD_NOW);
    void *handles[] = {RTLD_DEFAULT, dlopen("libc.so.6", RTLD_LAZY),
                       dlopen(NULL, RTLD_LAZY)};
    attach_to("libc?so");
    flk_attach_end();
    attach_to("libc.so");
    for (int i = 0; i < 3; i++) {
        if (i == 1 && !handles[i])
            continue;  // musl
        uintptr_t p = CALL(c, "take")(handles[i], 33);
        CHECK(size_at(p) == 33);
        CALL(c, "give")(handles[i], p);
        CHECK(!is_live(p));
    }
    uint64_t live = live_in(0);
    void *(*own)(size_t) = function_of(RTLD_DEFAULT, "malloc");
    void *p = own(12);  // looked up, but called by us
    CHECK(live_in(0) == live);
    free(p);
    flk_attach_end();
    dlclose(c);
}

static uint64_t mapped_at(uintptr_t address) {
    flk_record record;
    return flk_registry_find(FLK_LAYER_MAPPING, address, &record)
               ? record.size_bytes
               : 0;
}

static void test_mappings_on_request(void) {
    uint64_t page = flk_platform_page_bytes();
    const char *pattern = "+liba.so";
    char reason[100];
    flk_attach_options options = {&pattern, 1, 1};
    attach_to("liba.so");
    uintptr_t p = CALL(a, "mapped")(8 * page);
    CHECK(!mapped_at(p));
    CALL(a, "unmapped")(p, 8 * page);
    CHECK(flk_attach_begin(&options, reason, sizeof reason) == 0);
    p = CALL(a, "mapped")(8 * page - 5);
    CHECK(mapped_at(p) == 8 * page);
    CALL(b, "unmapped")(p + 2 * page, page);
    CHECK(mapped_at(p) == 2 * page && mapped_at(p + 3 * page) == 5 * page);
    uintptr_t q = CALL(a, "remapped")(p + 3 * page, 5 * page, 90 * page);
    CHECK(mapped_at(q) == 90 * page);
    CALL(b, "unmapped")(p, 2 * page);
    CALL(b, "unmapped")(q, 90 * page);
    CHECK(!mapped_at(p) && !mapped_at(q));
    attach_to("liba.so");  // and without them again
    p = CALL(a, "mapped")(page);
    CHECK(!mapped_at(p));
    CALL(a, "unmapped")(p, page);
    flk_attach_end();
}

// A library that keeps malloc and free in variables, if it is installed.
static void check_libxml2(void) {
    void *xml = dlopen("libxml2.so.2", RTLD_NOW);
    if (!xml)
        return;
    flk_attach_refresh();
    uint64_t live = live_in(0);
    uintptr_t tree = CALL(xml, "xmlParseMemory")("<a><b>t</b></a>", 15);
    CHECK(tree && live_in(0) > live + 3);
    CALL(xml, "xmlFreeDoc")(tree);
    CALL(xml, "xmlCleanupParser")();
    CHECK(live_in(0) == live);
}

static void test_libxml2_is_balanced(void) {
    attach_to("libxml2.so*");
    check_libxml2();  // attached before it is loaded
    flk_attach_end();
    attach_to("libxml2.so*");
    check_libxml2();  // and after
    flk_attach_end();
}

static void test_reasons_are_given(void) {
    static char long_one[70000];
    memset(long_one, 'x', sizeof long_one - 1);
    const char *pattern = long_one;
    char reason[12];
    flk_attach_options options = {.rules = &pattern, .rule_count = 1};
    CHECK(flk_attach_begin(&options, reason, sizeof reason) == -1);
    CHECK_TEXT("the pattern", reason);
    CHECK(flk_attach_begin(&options, NULL, 0) == -1);
    CHECK(!attach_figures().attached);
}

#if IS_SANITIZED
static void test_sanitizers_are_refused(void) {
    char reason[100];
    flk_attach_options options = {.rule_count = 0};
    CHECK(flk_attach_begin(&options, reason, sizeof reason) == -1);
    CHECK(strstr(reason, "Sanitizer"));
    flk_attach_refresh();
    flk_attach_pause(1);
    flk_attach_end();
    CHECK(!attach_figures().attached);
}

int main(void) {
    start();
    RUN(test_sanitizers_are_refused);
    return DONE();
}
#else
int main(void) {
    start();
    // In a program that is not position-independent the entry of its linkage
    // table is thereby the address of malloc for all libraries.
    malloc_of_program = malloc;
    a = opened(library("a", source, ""), RTLD_NOW);
    b = opened(library("b", source, "-Wl,-z,now -O2"), RTLD_NOW);
    RUN(test_malloc_is_recorded_with_its_size);
    RUN(test_others_are_silent);
    RUN(test_frees_are_seen_everywhere);
    RUN(test_pointers_in_data_are_patched);
    RUN(test_realloc_keeps_identity);
    RUN(test_aligned_blocks_and_their_errors);
    RUN(test_results_of_libc_are_recorded);
    RUN(test_private_blocks_of_libc_are_silent);
    RUN(test_functions_of_libc_left_by_longjmp);
    RUN(test_pause_honours_frees_only);
    RUN(test_records_are_dropped_after_the_end);
    RUN(test_detached_hooks_pass_on);
    RUN(test_selection_may_change_while_attached);
    RUN(test_whole_process_is_all_but_libc);
    RUN(test_looked_up_functions_are_hooked);
    RUN(test_mappings_on_request);
    RUN(test_libxml2_is_balanced);
    RUN(test_reasons_are_given);
    RUN(test_everything_is_sound);
    return DONE();
}
#endif

// test_attach_preload.c - more than one allocator in the process.            SPDX-License-Identifier: MIT
// The program runs itself again under LD_PRELOAD: of an allocator with memory of its own, which aborts on blocks
// that are not its own, and of two that stand on the C library's.
#include "libraries.h"

#if !IS_SANITIZED
static const char own_memory[] =
    "#include <stddef.h>\n#include <stdlib.h>\n#include <string.h>\n"
    "static char pool[1 << 24]; static size_t used;\n"
    "void *malloc(size_t n) { n = (n + 31) & ~15ul;\n"
    "  size_t at = __atomic_fetch_add(&used, n + 16, __ATOMIC_RELAXED);\n"
    "  if (n > sizeof pool || at + n > sizeof pool) return 0;\n"
    "  *(size_t *)(pool + at) = n; return pool + at + 16; }\n"
    "void free(void *p) { if (p && ((char *)p < pool ||\n"
    "  (char *)p >= pool + sizeof pool)) abort(); }\n"
    "void *calloc(size_t a, size_t b) { return malloc(a * b); }\n"
    "void *realloc(void *p, size_t n) { if (!p) return malloc(n);\n"
    "  void *q = malloc(n); size_t m = ((size_t *)p)[-2];\n"
    "  if (q) memcpy(q, p, m < n ? m : n); free(p); return q; }\n"
    "int posix_memalign(void **p, size_t a, size_t n)\n"
    "{ char *q = malloc(n + a); if (!q) return 12;\n"
    "  *p = q + (-(size_t)q & (a - 1)); return 0; }\n"
    "void *aligned_alloc(size_t a, size_t n)\n"
    "{ void *p; return posix_memalign(&p, a, n) ? 0 : p; }\n";

static const char on_libc[] =
    "#include <stddef.h>\n"
    "extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t),\n"
    "  *__libc_realloc(void *, size_t); extern void __libc_free(void *);\n"
    "void *malloc(size_t n) { return __libc_malloc(n); }\n"
    "void *calloc(size_t a, size_t b) { return __libc_calloc(a, b); }\n"
    "void *realloc(void *p, size_t n) { return __libc_realloc(p, n); }\n"
    "void free(void *p) { __libc_free(p); }\n"
    "extern void *__libc_memalign(size_t, size_t), *__libc_valloc(size_t);\n"
    "void *memalign(size_t a, size_t n) { return __libc_memalign(a, n); }\n"
    "void *valloc(size_t n) { return __libc_valloc(n); }\n"
    "int aligns = 1;\n";

// Chosen at load by a function (STT_GNU_IFUNC), as gperftools chooses some.
static const char by_choice[] =
    "#include <stddef.h>\n"
    "extern void *__libc_malloc(size_t); extern void __libc_free(void *);\n"
    "static void *one(size_t n) { return __libc_malloc(n); }\n"
    "static void two(void *p) { __libc_free(p); }\n"
    "static void *pick_one(void) { return (void *)one; }\n"
    "static void *pick_two(void) { return (void *)two; }\n"
    "void *malloc(size_t n) __attribute__((ifunc(\"pick_one\")));\n"
    "void free(void *p) __attribute__((ifunc(\"pick_two\")));\n";

static const char user[] =
    "#include <dlfcn.h>\n#include <stdlib.h>\n#include <string.h>\n"
    "void *take(size_t n) { return malloc(n); }\n"
    "void *resized(void *p, size_t n) { return realloc(p, n); }\n"
    "char *copied(const char *s) { return strdup(s); }\n"
    "void give(void *p) { free(p); }\n"
    "void *take_by(void *h, size_t n) { void *(*f)(size_t) =\n"
    "  (void *(*)(size_t))dlsym(h, \"malloc\"); void *p = f(n);\n"
    "  return p ? p : 0; }\n"
    "void give_by(void *h, void *p)\n"
    "{ ((void (*)(void *))dlsym(h, \"free\"))(p); }\n";

static const char user_of_aligned[] =
    "#include <stddef.h>\n"
    "extern void *memalign(size_t, size_t), *valloc(size_t), free(void *);\n"
    "void *aligned(size_t n) { return memalign(64, n); }\n"
    "void *paged(size_t n) { return valloc(n); }\n"
    "void give(void *p) { free(p); }\n";

static void check_take_and_give(void *use) {
    uint64_t missed = self_figures().missed_frees;
    uint64_t foreign = attach_figures().foreign_frees;
    uint64_t live = live_in(0);
    uintptr_t p = CALL(use, "take")(31), q = CALL(use, "copied")("text");
    CHECK(size_at(p) == 31 && size_at(q) == 5 && live_in(0) == live + 2);
    CHECK_TEXT("malloc", type_at(p));
    CHECK_TEXT("strdup", type_at(q));
    p = CALL(use, "resized")(p, 5000);
    CHECK(size_at(p) == 5000 && live_in(0) == live + 2);
    CALL(use, "give")(p);
    CALL(use, "give")(q);
    CHECK(live_in(0) == live && self_figures().missed_frees == missed);
    CHECK(attach_figures().foreign_frees == foreign);
}

// Slots of the wrapper that are not bound yet lead to the C library.
static void check_aligned(void) {
    void *use = opened(library("use2", user_of_aligned, ""), RTLD_NOW);
    attach_to("libuse2.so");
    uintptr_t p = CALL(use, "aligned")(100), q = CALL(use, "paged")(200);
    CHECK(size_at(p) == 100 && p % 64 == 0 && size_at(q) == 200);
    CALL(use, "give")(p);
    CALL(use, "give")(q);
    CHECK(!is_live(p) && !is_live(q));
    flk_attach_end();
}

static void check_handle(void *use, void *handle) {
    uintptr_t p = CALL(use, "take_by")(handle, 32);
    CHECK(size_at(p) == 32);
    CALL(use, "give_by")(handle, p);  // aborts if it is another one's
    CHECK(!is_live(p));
}

static int run_preloaded(void) {
    unsetenv("LD_PRELOAD");  // not for the compiler
    start();
    void *use = opened(library("use", user, ""), RTLD_NOW);
    if (dlsym(RTLD_DEFAULT, "aligns"))
        check_aligned();
    attach_to("libuse.so");
    CHECK(attach_figures().providers >= 2);
    check_take_and_give(use);
    check_handle(use, RTLD_DEFAULT);
    check_handle(use, opened("libc.so.6", RTLD_LAZY));
    flk_attach_end();
    attach_to(NULL);
    check_take_and_give(use);
    flk_attach_end();
    uintptr_t p = CALL(use, "take")(31);
    CHECK(p && !is_live(p));
    CALL(use, "give")(p);
    CHECK(flk_tracker_check());
    return 0;
}

static int run_again_under(const char *program, const char *name,
                           const char *text) {
    char path[400], command[1000];
    strcpy(path, library(name, text, "-Wl,-z,lazy"));
    snprintf(command, sizeof command, "LD_PRELOAD=%s %s preloaded", path,
             program);
    return system(command);
}

int main(int count, char **arguments) {
    if (count > 1)
        return run_preloaded();
    if (!dlopen("libc.so.6", RTLD_LAZY) || is_slow_tool())
        return DONE();  // musl; valgrind has its own
    CHECK(run_again_under(arguments[0], "own", own_memory) == 0);
    check_passed++;
    CHECK(run_again_under(arguments[0], "onlibc", on_libc) == 0);
    check_passed++;
    CHECK(run_again_under(arguments[0], "choice", by_choice) == 0);
    check_passed++;
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif

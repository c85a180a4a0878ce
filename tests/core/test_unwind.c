// test_unwind.c - native stacks are those that backtrace() tells, remembered ones too.  SPDX-License-Identifier: MIT
#include <execinfo.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "libraries.h"
#include "paths/modules.h"
#include "paths/unwind.h"

#if defined(__x86_64__)
#define IS_X86 1
#else
#define IS_X86 0
#endif

enum { DEPTH = FLK_NATIVE_FRAMES_MAX, STACKS = 1 << 16 };

typedef struct stack {
    size_t count;
    uintptr_t addresses[DEPTH];
} stack;

static flk_native *native;
static stack known[STACKS];  // by the path they are remembered under
static uint32_t known_count;
static uint64_t hits, misses;

// --- what is to be found -----------------------------------------------
// This program holds the core, so its own frames are left out.
static bool is_own(uintptr_t address) {
    flk_loaded loaded;
    return flk_loaded_at(address, &loaded) &&
           (uintptr_t)flk_modules_at >= loaded.begin &&
           (uintptr_t)flk_modules_at < loaded.end;
}

static stack expected(void) {
    enum { ROOM = 256 };
    void *all[ROOM];
    stack found = {0};
    int count = backtrace(all, ROOM);
    // A sanitizer's own frame around backtrace() comes first.
    int i = IS_SANITIZED && !is_own((uintptr_t)all[0]);
    for (; i < count && found.count < DEPTH; i++)
        if (!is_own((uintptr_t)all[i] - 1))
            found.addresses[found.count++] = (uintptr_t)all[i];
    return found;
}

// Ours are inside of the call; those of the interrupted are the same.
static bool are_same(const stack *ours, const stack *theirs) {
    bool same = ours->count == theirs->count;
    for (size_t i = 0; same && i < ours->count; i++)
        same = theirs->addresses[i] - ours->addresses[i] <= 1;
    return same;
}

static stack of_sites(const uint32_t *sites, size_t count) {
    stack found = {.count = count};
    for (size_t i = 0; i < count; i++) {
        flk_native_place place;
        CHECK(flk_modules_describe(sites[i], &place));
        found.addresses[i] = place.base + place.offset;
    }
    return found;
}

static void show(const char *name, const stack *s) {
    fprintf(stderr, "%s:\n", name);
    for (size_t i = 0; i < s->count; i++) {
        void *address = (void *)s->addresses[i];
        backtrace_symbols_fd(&address, 1, 2);
    }
}

static void check_same(const stack *ours, const stack *theirs) {
    if (!are_same(ours, theirs)) {
        show("ours", ours);
        show("backtrace()", theirs);
    }
    CHECK(are_same(ours, theirs));
}

// --- a search for one frame ---------------------------------------------
static uintptr_t sought;
static uint8_t judge_frame(uintptr_t address) {
    return sought - address <= 1 ? 7 : 0;
}

// Any frame of the stack is found, with a new stamp and with a known one; an
// address that is in no frame is not.
static void check_search(const stack *theirs, const flk_registers *here) {
    static uint32_t stamp;
    if (theirs->count == 0)
        return;
    sought = theirs->addresses[stamp % theirs->count];
    CHECK(flk_unwind_find(native, here, ++stamp, judge_frame) == 7);
    CHECK(flk_unwind_find(native, here, stamp, judge_frame) == 7);
    sought = (uintptr_t)&stamp;
    CHECK(flk_unwind_find(native, here, ++stamp, judge_frame) == 0);
}

// Both ways, and by memory; called by the libraries.
static FLK_NOINLINE int probe(void) {
    stack theirs = expected();
    uint32_t sites[DEPTH];
    flk_wanted wanted = {flk_unwind_here(), 0, DEPTH};
    check_search(&theirs, &wanted.at);
    uint32_t path = flk_unwind_recall(native, &wanted);
    if (path != UINT32_MAX) {
        check_same(&known[path], &theirs);
        hits++;
        return 1;
    }
    misses++;
    size_t count = flk_unwind_walk(native, &wanted, sites);
    CHECK(count != FLK_UNWIND_NO_MEMORY);
    stack ours = of_sites(sites, count);
    check_same(&ours, &theirs);
    known[known_count] = ours;
    flk_unwind_remember(native, &wanted, known_count);
    CHECK(++known_count < STACKS);
    return 1;
}

static void *probe_in_thread(void *argument) {
    (void)argument;
    return (void *)(uintptr_t)probe();
}

static void begin(void) {
    flk_unwind_start();
    native = flk_unwind_new();
    CHECK(native != NULL && flk_loaded_is_watched());
}

// --- random call trees -------------------------------------------------
// Functions of several shapes that call each other by a table.
static const char tree_head[] =
    "#include <alloca.h>\n#include <stdlib.h>\n#include <string.h>\n"
    "typedef struct tree { unsigned long state; int (*probe)(void); } tree;\n"
    "static unsigned next(tree *t) { t->state ^= t->state << 13;\n"
    "  t->state ^= t->state >> 7; t->state ^= t->state << 17;\n"
    "  return (unsigned)(t->state >> 20); }\n"
    "typedef int function(tree *, int);\n"
    "static function *const table[];\n"
    "static int go(tree *, int);\n"
    "static __thread tree *sorted_tree; static __thread int sorted_left;\n"
    "static int compare(const void *a, const void *b) {\n"
    "  int r = sorted_left >= 0 ? go(sorted_tree, sorted_left) : 0;\n"
    "  sorted_left = -1; return *(int *)a - *(int *)b + r - r; }\n"
    "extern void use(void *);\n"
    "__attribute__((noinline)) void use(void *p)\n"
    "{ __asm__ volatile(\"\" :: \"r\"(p) : \"memory\"); }\n";

// %d: a number, the same one all over a line.
static const char *const shapes[] = {
    "static int f%d(tree *t, int n) { int r = go(t, n); return r + %d; }\n",
    "static int f%d(tree *t, int n) { char b[%d * 8 + 1]; use(b);\n"
    "  int r = go(t, n); use(b); return r; }\n",
    "static int f%d(tree *t, int n) { char *b = alloca(next(t) %% 200 + %d);\n"
    "  use(b); int r = go(t, n); use(b); return r; }\n",
    "static int f%d(tree *t, int n) { __attribute__((aligned(64)))\n"
    "  char b[%d + 64]; use(b); int r = go(t, n); use(b); return r; }\n",
    "static int f%d(tree *t, int n) { long a = next(t), b = next(t),\n"
    "  c = next(t), d = next(t), e = next(t), g = %d; use(&a);\n"
    "  int r = go(t, n); return (int)(a + b * c + d * e + g + r); }\n",
    "static int f%d(tree *t, int n) { int v[] = {3, 1, %d};\n"
    "  sorted_tree = t; sorted_left = n; qsort(v, 3, 4, compare);\n"
    "  return v[0]; }\n",
    "static int f%d(tree *t, int n) { __attribute__((aligned(32)))\n"
    "  char b[32]; char *c = alloca(%d + n); use(b); use(c);\n"
    "  int r = go(t, n); use(b); return r; }\n",
};
enum { SHAPES = sizeof shapes / sizeof *shapes, FUNCTIONS = 49 };

static const char tree_tail[] =
    "static int go(tree *t, int n) { if (n <= 0) return t->probe() + \n"
    "  t->probe(); return table[next(t) % (sizeof table / sizeof *table)]\n"
    "  (t, n - 1) + 1; }\n"
    "int start(unsigned long seed, int n, int (*probe)(void))\n"
    "{ tree t = {seed, probe}; return go(&t, n); }\n"
    "void *thread(void *probe) { start(17, 5, (int (*)(void))probe);\n"
    "  return probe; }\n";

static const char *tree_source(void) {
    static char text[64 * 1024];
    size_t used = (size_t)snprintf(text, sizeof text, "%s", tree_head);
    for (int i = 0; i < FUNCTIONS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 shapes[i % SHAPES], i, i);
    used += (size_t)snprintf(text + used, sizeof text - used,
                             "static function *const table[] = {");
    for (int i = 0; i < FUNCTIONS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "f%d,", i);
    used +=
        (size_t)snprintf(text + used, sizeof text - used, "};\n%s", tree_tail);
    CHECK(used < sizeof text);
    return text;
}

static void run_trees(void *handle) {
    uint64_t random = 88172645463325252u;
    int trees = few_or_many(20, 300, 3000);
    hits = 0;
    for (int i = 0; i < trees; i++) {
        uint64_t seed = random_next(&random);
        int times = 2;
        FLK_OPAQUE(times);  // one call in the code
        for (int again = 0; again < times; again++)
            CALL(handle, "start")(seed, i % 24, probe);
    }
    CHECK(flk_unwind_check(native));
    CHECK(hits >= (uint64_t)trees);
}

static void test_random_trees_without_frame_pointers(void) {
    run_trees(opened(library("bare", tree_source(), "-O2 -fomit-frame-pointer"),
                     RTLD_NOW));
}

static void test_random_trees_with_frame_pointers(void) {
    run_trees(
        opened(library("framed", tree_source(), "-O2 -fno-omit-frame-pointer"),
               RTLD_NOW));
}

static void test_random_trees_without_optimisation(void) {
    run_trees(opened(library("slow", tree_source(), "-O0"), RTLD_NOW));
}

static void test_stacks_are_remembered(void) {
    hits = 0;
    void *handle = opened(library("again", tree_source(), "-O2"), RTLD_NOW);
    for (int i = 0; i < 10; i++)
        CALL(handle, "start")(4711, 12, probe);
    CHECK(hits >= 12);  // two stacks may share a place
    CHECK(flk_unwind_gcc_count() == 0);
}

// --- where an unsound memo is wrong ------------------------------------
// F has a frame pointer, G uses alloca: reached from H1 and from H2 with
// the same stack pointer, all return addresses that a memo would look at
// are the same words, left over from before.
static const char stale_source[] =
    "#include <alloca.h>\n"
    "#define KEEP __asm__ volatile(\"\")\n"
    "static int (*probe)(void);\n"
    "__attribute__((noinline)) void F(void) { probe(); KEEP; }\n"
    "__attribute__((noinline)) void G(int n)\n"
    "{ volatile char *b = alloca(n); b[0] = 1; F(); KEEP; }\n"
    "__attribute__((noinline)) void H1(void) { G(16); KEEP; }\n"
    "__attribute__((noinline)) void H2(int n) { G(n); KEEP; }\n"
    "static void h1(int n) { H1(); KEEP; }\n"
    "__attribute__((noinline)) void deep(int n, void (*f)(int), int a)\n"
    "{ volatile char pad[512]; pad[0] = 0;\n"
    "  if (n) deep(n - 1, f, a); else f(a); KEEP; }\n"
    "void run(int (*p)(void), int n)\n"
    "{ probe = p; deep(1, h1, 0); H2(n); deep(1, h1, 0); H2(n); }\n";

static void test_stale_return_addresses_do_not_fool_it(void) {
    void *handle =
        opened(library("stale", stale_source, "-O2 -fno-omit-frame-pointer"),
               RTLD_NOW);
    for (int n = 16; n < 4096; n += 16)
        CALL(handle, "run")(probe, n);
}

// --- signals -----------------------------------------------------------
static volatile sig_atomic_t signal_count;

static void on_signal(int number) {
    (void)number;
    probe();
    signal_count++;
}

static void test_handlers_show_whom_they_interrupted(void) {
    void *handle =
        opened(library("raises",
                       "#include <signal.h>\nint run(void) { raise(SIGUSR1); "
                       "return 7; }\n",
                       "-O2"),
               RTLD_NOW);
    signal(SIGUSR1, on_signal);
    signal_count = 0;
    CHECK((int)CALL(handle, "run")() == 7);
    CHECK(signal_count == 1);
}

static int nothing(void) { return 1; }

static struct {
    int wanted;
    struct itimerval next;
} alarms;

// The time to the next one begins here: however slow the machine is, the program
// goes on after the last one.
static void on_alarm(int number) {
    on_signal(number);
    if (signal_count < alarms.wanted)
        setitimer(ITIMER_REAL, &alarms.next, NULL);
}

// At whatever instruction it is, prologues and epilogues among them.
static void test_any_instruction_may_be_interrupted(void) {
    void *handle = opened(library("busy", tree_source(), "-O2"), RTLD_NOW);
    alarms.next.it_value.tv_usec = few_or_many(20000, 500, 200);
    alarms.wanted = few_or_many(20, 500, 3000);
    signal(SIGALRM, on_alarm);
    signal_count = 0;
    setitimer(ITIMER_REAL, &alarms.next, NULL);
    for (unsigned long seed = 1; signal_count < alarms.wanted; seed++)
        CALL(handle, "start")(seed * 2654435761u, 20, nothing);
    signal(SIGALRM, SIG_DFL);
}

static void test_handlers_may_have_a_stack_of_their_own(void) {
    void *handle =
        opened(library("raises_there",
                       "#include <signal.h>\nint run(void) { raise(SIGUSR2); "
                       "return 7; }\n",
                       "-O2"),
               RTLD_NOW);
    enum { BYTES = 256 * 1024 };
    static char room[BYTES];
    stack_t there = {.ss_sp = room, .ss_size = BYTES}, before;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    CHECK(sigaltstack(&there, &before) == 0);
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    signal_count = 0;
    CHECK((int)CALL(handle, "run")() == 7);
    CHECK(signal_count == 1);
    CHECK(sigaltstack(&before, NULL) == 0);
}

// --- threads -----------------------------------------------------------
static void test_it_ends_where_a_thread_starts(void) {
    void *handle = opened(library("starts", tree_source(), "-O2"), RTLD_NOW);
    void *(*start)(void *) = (void *(*)(void *))function_of(handle, "thread");
    CHECK(in_thread(start, (void *)probe) == (void *)probe);
    CHECK(in_thread(probe_in_thread, NULL) == (void *)1);
}

// --- depth and the edge ------------------------------------------------
static stack limited;

static FLK_NOINLINE int probe_limited(void) {
    uint32_t sites[DEPTH];
    flk_wanted wanted = {flk_unwind_here(), 0, (uint32_t)limited.count};
    size_t count = flk_unwind_walk(native, &wanted, sites);
    limited = of_sites(sites, count);
    flk_unwind_remember(native, &wanted, 1);
    CHECK(flk_unwind_recall(native, &wanted) == 1);
    return 1;
}

static void test_only_so_many_frames_are_taken(void) {
    void *handle =
        opened(library("levels",
                       "#define CALLS(a, b) int a(int (*p)(void))"
                       " { int r = b; __asm__ volatile(\"\"); return r; }\n"
                       "CALLS(l1, p()) CALLS(l2, l1(p)) CALLS(l3, l2(p))"
                       " CALLS(l4, l3(p))\n",
                       "-O1 -fno-inline"),
               RTLD_NOW);
    for (size_t depth = 1; depth <= 4; depth++) {
        limited.count = depth;
        CALL(handle, "l4")(probe_limited);
        CHECK(limited.count == depth);
    }
}

// A library that defines what Python does stands for its runtime.
static void test_it_stops_at_the_python_runtime(void) {
    void *edge =
        opened(library("runtime",
                       "void PyEval_EvalCode(void) {}\n"
                       "int run(int (*f)(int (*)(void)), int (*p)(void))\n"
                       "{ int r = f(p); __asm__ volatile(\"\"); return r; }\n",
                       "-O1"),
               RTLD_NOW);
    void *inner = opened(library("inner",
                                 "int in(int (*p)(void)) { int r = p();"
                                 " __asm__ volatile(\"\"); return r; }\n",
                                 "-O1"),
                         RTLD_NOW);
    limited.count = DEPTH;
    CALL(edge, "run")(function_of(inner, "in"), probe_limited);
    CHECK(limited.count == 1);
    Dl_info where;
    CHECK(dladdr((void *)limited.addresses[0], &where));
    CHECK_TEXT("in", where.dli_sname);
}

// --- objects that come and go ------------------------------------------
static flk_loaded loaded_there;
static uint32_t module_there, site_there;

// Called by a library, whose module it notes.
static FLK_NOINLINE int probe_module(void) {
    uintptr_t caller = (uintptr_t)__builtin_return_address(0) - 1;
    module_there = flk_modules_at(caller, &loaded_there);
    site_there = flk_modules_site(module_there, loaded_there.base, caller);
    return 1;
}

static uint32_t module_met(void *handle) {
    CALL(handle, "in")(probe_module);
    return module_there;
}

static void test_what_is_loaded_there_later_is_another(void) {
    const char *code = "int in(int (*p)(void)) { int r = p();"
                       " __asm__ volatile(\"\"); return r; }\n";
    char first[400], second[400];
    snprintf(first, sizeof first, "%s", library("one", code, "-O1"));
    snprintf(second, sizeof second, "%s", library("two", code, "-O1"));
    void *handle = opened(first, RTLD_NOW);
    uint64_t epoch = flk_loaded_epoch();
    uint32_t one = module_met(handle);
    CHECK(flk_loaded_epoch() == epoch);
    CHECK(module_met(handle) == one);
    dlclose(handle);
    handle = opened(second, RTLD_NOW);
    CHECK(flk_loaded_epoch() != epoch);
    uint32_t two = module_met(handle);
    CHECK(one != two);
    CHECK_TEXT(first, flk_modules_get(one)->path);
    CHECK_TEXT(second, flk_modules_get(two)->path);
    dlclose(handle);
    handle = opened(first, RTLD_NOW);
    CHECK(module_met(handle) == one);
    dlclose(handle);
}

// A plugin that is loaded again and again, wherever there is room, is one.
static void test_loaded_elsewhere_it_is_the_same_module(void) {
    const char *path = library("moved",
                               "int in(int (*p)(void)) { int r = p();"
                               " __asm__ volatile(\"\"); return r; }\n",
                               "-O1");
    uint32_t one = 0, site = 0;
    void *taken[3];
    for (int i = 0; i < 3; i++) {
        void *handle = opened(path, RTLD_NOW);
        module_met(handle);
        CHECK(i == 0 || (module_there == one && site_there == site));
        CHECK(i == 0 || (void *)loaded_there.base != taken[i - 1]);
        one = module_there, site = site_there;
        dlclose(handle);
        taken[i] = mmap((void *)loaded_there.base, 4096, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    for (int i = 0; i < 3; i++)
        munmap(taken[i], 4096);
}

// The same file name with another build in it.
static void test_another_build_is_another_module(void) {
    const char *path = library("build",
                               "int in(int (*p)(void)) { int r ="
                               " p(); __asm__ volatile(\"\"); return r; }\n",
                               "-O1");
    void *handle = opened(path, RTLD_NOW);
    uint32_t one = module_met(handle);
    dlclose(handle);
    path = library("build",
                   "int f(int n) { return n * 3; }\n"
                   "int in(int (*p)(void)) { int r = p();"
                   " __asm__ volatile(\"\"); return r; }\n",
                   "-O1");
    handle = opened(path, RTLD_NOW);
    CHECK(module_met(handle) != one);
    dlclose(handle);
}

// The same code but for the size of its frame, in the same place.
static void test_rules_of_what_was_there_are_forgotten(void) {
    static const char code[] =
        "__attribute__((noinline)) int in(int (*p)(void)) {"
        " volatile char b[SIZE]; b[0] = 1; int r = p(); b[1] = 2;"
        " return r; }\n"
        "int out(int (*p)(void)) { int r = in(p);"
        " __asm__ volatile(\"\"); return r; }\n";
    const char *const flags = "-O1 -fno-stack-protector -fcf-protection=none";
    char paths[2][400], options[100];
    for (int i = 0; i < 2; i++) {
        snprintf(options, sizeof options, "%s -DSIZE=%d",
                 IS_X86 ? flags : "-O1 -fno-stack-protector", i ? 88 : 24);
        snprintf(paths[i], sizeof paths[i], "%s",
                 library(i ? "wide" : "thin", code, options));
    }
    uintptr_t places[2];
    for (int i = 0; i < 6; i++) {
        void *handle = opened(paths[i % 2], RTLD_NOW);
        places[i % 2] = (uintptr_t)function_of(handle, "in");
        CALL(handle, "out")(probe);
        dlclose(handle);
    }
    if (places[0] != places[1])
        fprintf(stderr, "not loaded in one place: nothing shown\n");
}

static void test_the_words_are_found_again(void) {
    uint64_t epoch = flk_loaded_epoch();
    flk_unwind_start();
    CHECK(flk_loaded_is_watched());
    CHECK(flk_loaded_epoch() == flk_loaded_epoch());
    (void)epoch;
}

static bool probe_in_child(void) { return probe() == 1; }

static void test_a_child_unwinds_too(void) {
    CHECK(child_says(probe_in_child));
}

int main(void) {
    start();
    RUN(begin);
    RUN(test_random_trees_without_frame_pointers);
    RUN(test_random_trees_with_frame_pointers);
    RUN(test_random_trees_without_optimisation);
    RUN(test_stacks_are_remembered);
    RUN(test_stale_return_addresses_do_not_fool_it);
    RUN(test_handlers_show_whom_they_interrupted);
    RUN(test_any_instruction_may_be_interrupted);
    RUN(test_handlers_may_have_a_stack_of_their_own);
    RUN(test_it_ends_where_a_thread_starts);
    RUN(test_only_so_many_frames_are_taken);
    RUN(test_it_stops_at_the_python_runtime);
    RUN(test_what_is_loaded_there_later_is_another);
    RUN(test_loaded_elsewhere_it_is_the_same_module);
    RUN(test_another_build_is_another_module);
    RUN(test_rules_of_what_was_there_are_forgotten);
    RUN(test_the_words_are_found_again);
    RUN(test_a_child_unwinds_too);
    RUN(test_everything_is_sound);
    return DONE();
}

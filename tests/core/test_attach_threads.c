// test_attach_threads.c - attach while others allocate, bind, load and fork.  SPDX-License-Identifier: MIT
// Use:     test_attach_threads [seconds]
#include <sys/resource.h>
#include <sys/time.h>

#include "elf/loaded.h"
#include "libraries.h"

#if !IS_SANITIZED
static const char source[] =
    "#include <stdlib.h>\n#include <string.h>\n"
    "void *take(size_t n) { return malloc(n); }\n"
    "void give(void *p) { free(p); }\n"
    "void churn(unsigned n) { void *kept[32] = {0};\n"
    "  for (unsigned i = 0; i < n; i++) { unsigned k = i * 7 % 32;\n"
    "    if (i % 5 == 0) kept[k] = realloc(kept[k], i % 300 + 1);\n"
    "    else { free(kept[k]); kept[k] = i % 3 ? malloc(i % 500 + 1)\n"
    "      : (void *)strdup(\"text\"); } }\n"
    "  for (int k = 0; k < 32; k++) free(kept[k]); }\n";

static const char releasing[] =
    "#include <stdlib.h>\nvoid release(void *p) { free(p); }\n";

static int seconds = 1;
static atomic_bool is_over;
static void *churning;

static void *churn(void *count) {
    void (*run)(unsigned) = (void (*)(unsigned))function_of(churning, "churn");
    while (!atomic_load(&is_over)) {
        run(1000);
        atomic_fetch_add((atomic_ulong *)count, 1);
    }
    return NULL;
}

static void run_beside_churn(void (*step)(int round)) {
    pthread_t threads[2];
    static atomic_ulong count;
    atomic_store(&is_over, false);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, churn, &count);
    uint64_t until =
        flk_platform_clock_coarse() + (uint64_t)seconds * 1000000000;
    for (int round = 0; flk_platform_clock_coarse() < until; round++)
        step(round);
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&count) > 0);
}

static void attach_and_end(int round) {
    attach_to(round % 3 ? "libchurn.so" : NULL);
    if (round % 4 == 0)
        flk_attach_pause(1);
    if (round % 5 == 0)
        usleep(2000);
    flk_attach_end();
}

static void test_attach_and_end_beside_two_threads(void) {
    run_beside_churn(attach_and_end);
    CHECK(attach_figures().failed_words == 0 && flk_tracker_check());
    // Nothing is wrong afterwards: a round trip is seen in full.
    flk_tracker_reset(0);
    attach_to("libchurn.so");
    uint64_t dropped = self_figures().dropped;
    uintptr_t p = CALL(churning, "take")(77);
    CHECK(size_at(p) == 77);
    CALL(churning, "give")(p);
    CHECK(live_in(0) == 0 && self_figures().dropped == dropped);
    flk_attach_end();
}

// --- sessions that follow each other at once ------------------------------
enum { CHURNERS = 3 };
static pthread_barrier_t at_rest;
static atomic_bool is_rest, is_end;

// Frees through another library, which is patched long after this one.
static const char parted[] =
    "#include <stdlib.h>\n#include <string.h>\n"
    "void (*release)(void *);\n"
    "void churn(unsigned n) { void *kept[32] = {0};\n"
    "  for (unsigned i = 0; i < n; i++) { unsigned k = i * 7 % 32;\n"
    "    if (i % 5 == 0) kept[k] = realloc(kept[k], i % 300 + 1);\n"
    "    else { release(kept[k]); kept[k] = i % 3 ? malloc(i % 500 + 1)\n"
    "      : (void *)strdup(\"text\"); } }\n"
    "  for (int k = 0; k < 32; k++) release(kept[k]); }\n";

static void *churn_until_rest(void *run) {
    for (;;) {
        pthread_barrier_wait(&at_rest);
        if (atomic_load(&is_end))
            return NULL;
        while (!atomic_load(&is_rest))
            ((void (*)(unsigned))run)(50);
        pthread_barrier_wait(&at_rest);
    }
}

// At rest the threads have freed all that they had allocated.
static void check_next_session(void) {
    uint64_t missed = self_figures().missed_frees;
    atomic_store(&is_rest, false);
    pthread_barrier_wait(&at_rest);
    flk_attach_end();
    flk_attach_drop();
    CHECK(live_in(0) == 0);
    attach_to("libparted.so");
    atomic_store(&is_rest, true);
    pthread_barrier_wait(&at_rest);
    CHECK(live_in(0) == 0 && self_figures().missed_frees == missed);
}

static void open_parted(void **run) {
    void *lib = opened(library("parted", parted, "-O2"), RTLD_NOW);
    for (int i = 0; i < 10; i++) {
        char name[20];
        snprintf(name, sizeof name, "between%d", i);
        opened(library(name, source, ""), RTLD_NOW);
    }
    void *last = opened(library("last", releasing, "-O2"), RTLD_NOW);
    *(void **)function_of(lib, "release") = function_of(last, "release");
    *run = function_of(lib, "churn");
}

static void test_sessions_do_not_mix(void) {
    pthread_t threads[CHURNERS];
    void *run;
    open_parted(&run);
    pthread_barrier_init(&at_rest, NULL, CHURNERS + 1);
    for (int i = 0; i < CHURNERS; i++)
        pthread_create(&threads[i], NULL, churn_until_rest, run);
    attach_to("libparted.so");
    flk_attach_drop();
    uint64_t until =
        flk_platform_clock_coarse() + (uint64_t)seconds * 2000000000;
    while (flk_platform_clock_coarse() < until)
        check_next_session();
    atomic_store(&is_end, true);
    pthread_barrier_wait(&at_rest);
    for (int i = 0; i < CHURNERS; i++)
        pthread_join(threads[i], NULL);
    flk_attach_end();
    CHECK(flk_tracker_check());
}

static atomic_bool is_recording, has_recorded;

static void *record_slowly(void *unused) {
    flk_thread *thread = flk_thread_enter();
    CHECK(thread != NULL);
    atomic_store(&is_recording, true);
    usleep(50000);
    atomic_store(&has_recorded, true);
    flk_thread_leave(thread);
    return unused;
}

static void test_end_waits_for_threads_that_record(void) {
    pthread_t thread;
    attach_to("libchurn.so");
    pthread_create(&thread, NULL, record_slowly, NULL);
    while (!atomic_load(&is_recording))
        sched_yield();
    flk_attach_end();
    CHECK(atomic_load(&has_recorded));
    pthread_join(thread, NULL);
}

static void pause_and_resume(int round) {
    flk_attach_pause(1);
    if (round % 3 == 0)
        usleep(300);
    flk_attach_pause(0);
    if (round % 7 == 0)
        usleep(200);
}

// What was recorded is seen freed, whether hooks were on, paused or idle.
static void test_pause_beside_two_threads(void) {
    flk_attach_drop();  // what the last test's ends left behind
    uint64_t missed = self_figures().missed_frees;
    attach_to("libchurn.so");
    run_beside_churn(pause_and_resume);
    CHECK(live_in(0) == 0);
    CHECK(self_figures().missed_frees == missed);
    CHECK(flk_tracker_check());
    flk_attach_end();
}

static void fork_once(int round) {
    (void)round;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(20);
        uintptr_t p = CALL(churning, "take")(78);
        bool good = size_at(p) == 78;
        CALL(churning, "give")(p);
        flk_attach_end();
        _exit(good && !is_live(p) && flk_tracker_check() ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_fork_while_attached(void) {
    attach_to("libchurn.so");
    run_beside_churn(fork_once);
    flk_attach_end();
    CHECK(flk_tracker_check());
    flk_tracker_reset(0);
}

static void attach_or_fork(int round) {
    if (round % 8 == 7) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(20);
            attach_to(NULL);
            flk_attach_end();
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    attach_and_end(round);
}

static void test_fork_between_attaches(void) {
    run_beside_churn(attach_or_fork);
    CHECK(flk_tracker_check());
    flk_tracker_reset(0);
}

// --- forks beside a thread that attaches ----------------------------------
static void *attach_and_rest(void *unused) {
    while (!atomic_load(&is_over)) {
        attach_to("libchurn.so");
        flk_attach_refresh();
        flk_attach_end();
        flk_attach_drop();
        usleep(100);
    }
    return unused;
}

static bool child_attaches(void) {
    attach_to("libchurn.so");
    uintptr_t p = CALL(churning, "take")(78);
    bool good = size_at(p) == 78;
    flk_attach_refresh();
    CALL(churning, "give")(p);
    good = good && !is_live(p);
    flk_attach_end();
    flk_attach_drop();
    return good && flk_tracker_check();
}

static void test_fork_beside_a_thread_that_attaches(void) {
    pthread_t thread;
    atomic_store(&is_over, false);
    pthread_create(&thread, NULL, attach_and_rest, NULL);
    for (int i = 0; i < 200; i++) {
        usleep(i * 37 % 500);
        CHECK(child_says(child_attaches));
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    flk_attach_drop();
}

static void *start_often(void *unused) {
    while (!atomic_load(&is_over))
        flk_loaded_start();
    return unused;
}

static bool child_starts(void) {
    flk_loaded_start();
    return true;
}

// glibc does not reset the lock of dl_iterate_phdr in a child.
static void test_fork_beside_questions_to_the_loader(void) {
    pthread_t thread;
    atomic_store(&is_over, false);
    pthread_create(&thread, NULL, start_often, NULL);
    for (int i = 0; i < 300; i++)
        CHECK(child_says(child_starts));
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
}

// --- several threads attach ------------------------------------------------------
static void *attach_often(void *pattern) {
    while (!atomic_load(&is_over)) {
        attach_to(pattern);
        flk_attach_refresh();
        flk_attach_end();
    }
    return NULL;
}

static void do_nothing(int round) {
    (void)round;
    usleep(1000);
}

static void test_two_threads_attach(void) {
    pthread_t thread;
    atomic_store(&is_over, false);
    pthread_create(&thread, NULL, attach_often, "libchurn.so");
    run_beside_churn(attach_and_end);
    pthread_join(thread, NULL);
    CHECK(!attach_figures().attached && flk_tracker_check());
    run_beside_churn(do_nothing);
    flk_tracker_reset(0);
}

// --- ends of threads ----------------------------------------------------
static pthread_key_t late_key;
static atomic_int late_count;

static void allocate_late(void *rounds) {
    uintptr_t p = CALL(churning, "take")(79);
    CHECK(size_at(p) == 79);
    CALL(churning, "give")(p);
    atomic_fetch_add(&late_count, 1);
    if ((uintptr_t)rounds > 1)
        pthread_setspecific(late_key, (char *)rounds - 1);
}

static void *end_late(void *rounds) {
    uintptr_t p = CALL(churning, "take")(80);
    pthread_setspecific(late_key, rounds);
    return (void *)p;
}

static void test_hooks_run_to_the_end_of_a_thread(void) {
    CHECK(pthread_key_create(&late_key, allocate_late) == 0);
    attach_to("libchurn.so");
    for (int i = 0; i < 20; i++) {
        uintptr_t p = (uintptr_t)in_thread(end_late, (void *)8);
        CHECK(size_at(p) == 80);
        CALL(churning, "give")(p);
    }
    CHECK(atomic_load(&late_count) >= 20 && live_in(0) == 0);
    flk_attach_end();
    pthread_key_delete(late_key);
}

// --- lazy binding -------------------------------------------------------
enum { LAZY = 24 };
static struct {
    void *handles[LAZY];
    word_function take[LAZY], give[LAZY];
    atomic_int turn, done;
} lazy;

static void *call_first(void *unused) {
    for (int i = 0; i < LAZY; i++) {
        while (atomic_load(&lazy.turn) <= i)
            ;
        lazy.give[i](lazy.take[i](16));
        atomic_store(&lazy.done, i + 1);
    }
    return unused;
}

// A thread binds a slot by its first call while attach patches the slot. In
// whatever order they store, the slot leads to the hook after a refresh.
static void test_race_with_lazy_binding(void) {
    char path[400], name[20];
    strcpy(path, library("lazy", source, "-Wl,-z,lazy"));
    for (int i = 0; i < LAZY; i++) {
        char command[900], copy[420];
        snprintf(name, sizeof name, "lazy%d", i);
        snprintf(copy, sizeof copy, "%s/lib%s.so", library_folder, name);
        snprintf(command, sizeof command, "cp %s %s", path, copy);
        CHECK(system(command) == 0);
        lazy.handles[i] = opened(copy, RTLD_LAZY);
        lazy.take[i] = CALL(lazy.handles[i], "take");
        lazy.give[i] = CALL(lazy.handles[i], "give");
    }
    pthread_t thread;
    pthread_create(&thread, NULL, call_first, NULL);
    for (int i = 0; i < LAZY; i++) {
        atomic_store(&lazy.turn, i + 1);
        for (volatile int wait = 0; wait < i * 997 % 20000; wait++)
            ;
        attach_to("liblazy*.so");
        while (atomic_load(&lazy.done) <= i)
            ;
        flk_attach_refresh();
        uintptr_t p = lazy.take[i](17);
        CHECK(size_at(p) == 17);
        lazy.give[i](p);
        CHECK(!is_live(p));
        flk_attach_end();
    }
    pthread_join(thread, NULL);
    CHECK(flk_tracker_check());
}

// --- loading ------------------------------------------------------------
static char loaded_path[400];

static void *load_and_unload(void *unused) {
    while (!atomic_load(&is_over)) {
        void *handle = dlopen(loaded_path, RTLD_NOW);
        CHECK(handle != NULL);
        CALL(handle, "give")(CALL(handle, "take")(18));
        dlclose(handle);
    }
    return unused;
}

static void test_libraries_come_and_go_meanwhile(void) {
    strcpy(loaded_path, library("loaded", source, "-Wl,-z,now,-z,relro"));
    pthread_t thread;
    atomic_store(&is_over, false);
    pthread_create(&thread, NULL, load_and_unload, NULL);
    for (int i = 0; i < 300; i++) {
        attach_to("libloaded.so");
        flk_attach_refresh();
        flk_attach_end();
    }
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    CHECK(attach_figures().failed_words == 0 && flk_tracker_check());
}

// --- a signal handler that allocates -----------------------------------
static void *(*take)(size_t);
static void (*give)(void *);
static atomic_ulong handled;
static void *kept_by_handler[64];

static void allocate_in_handler(int signal_number) {
    (void)signal_number;
    unsigned long i = atomic_fetch_add(&handled, 1) % 64;
    give(kept_by_handler[i]);
    kept_by_handler[i] = take(i * 16 + 1);
}

static void set_timer(long microseconds) {
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    signal(SIGALRM, microseconds ? allocate_in_handler : SIG_IGN);
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

// What is no event: each takes locks that an event of the handler would wait
// for. Nothing here allocates, since malloc itself is not to be interrupted.
static void read_everything(uint16_t type) {
    flk_snapshot snapshot;
    flk_block block;
    flk_misuse misuse;
    flk_observed event;
    flk_registry_stats stats;
    CHECK(flk_snapshot_collect(0, 0, 0, &snapshot));
    for (size_t i = 0; i < snapshot.count && i < 8; i++) {
        flk_find(snapshot.blocks[i].address, FLK_LAYER_HEAP, &block);
        flk_find_containing(snapshot.blocks[i].address + 1, FLK_LAYER_HEAP,
                            &block);
    }
    flk_snapshot_drop(&snapshot);
    flk_tracker_reset(0);
    flk_tracker_reset_peak(0);
    flk_registry_read_stats(&stats);
    flk_quarantine_check_all();
    flk_quarantine_drain();
    flk_misuse_pop(&misuse);
    flk_observe_next(&event);
    flk_scope_gone(flk_scope_new(0, 0));
    CHECK(flk_type_intern("void", "hook", "free") && live_of(type) < 1000);
    self_figures();
    flk_attach_refresh();
    flk_attach_pause(1);
    flk_attach_pause(0);
}

static void test_signal_handler_may_allocate_beside_readers(void) {
    flk_attach_options options = {.with_mappings = 1};
    struct rusage used;
    char reason[200];
    uint16_t type = type_of("int");
    take = (void *(*)(size_t))function_of(churning, "take");
    give = (void (*)(void *))function_of(churning, "give");
    // A thread that waits for itself spins. The tests before have used much.
    CHECK(getrusage(RUSAGE_SELF, &used) == 0);
    rlim_t spent = (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec);
    struct rlimit limit = {spent + (rlim_t)seconds * 10 + 20, RLIM_INFINITY};
    setrlimit(RLIMIT_CPU, &limit);
    CHECK(flk_attach_begin(&options, reason, sizeof reason) == 0);
    uint64_t until =
        flk_platform_clock_coarse() + (uint64_t)seconds * 1000000000;
    set_timer(1000);
    while (flk_platform_clock_coarse() < until)
        read_everything(type);
    set_timer(0);
    CHECK(atomic_load(&handled) > 100);
    for (int i = 0; i < 64; i++)
        give(kept_by_handler[i]);
    flk_attach_end();
    flk_attach_drop();
    CHECK(flk_tracker_check());
}

int main(int count, char **arguments) {
    if (count > 1)
        seconds = atoi(arguments[1]);
    start();
    churning = opened(library("churn", source, "-O2"), RTLD_NOW);
    RUN(test_race_with_lazy_binding);
    RUN(test_attach_and_end_beside_two_threads);
    RUN(test_sessions_do_not_mix);
    RUN(test_end_waits_for_threads_that_record);
    RUN(test_pause_beside_two_threads);
    RUN(test_fork_while_attached);
    RUN(test_fork_between_attaches);
    RUN(test_fork_beside_a_thread_that_attaches);
    RUN(test_fork_beside_questions_to_the_loader);
    RUN(test_two_threads_attach);
    RUN(test_hooks_run_to_the_end_of_a_thread);
    RUN(test_libraries_come_and_go_meanwhile);
    RUN(test_signal_handler_may_allocate_beside_readers);
    RUN(test_everything_is_sound);
    return DONE();
}
#else
int main(void) { return DONE(); }
#endif

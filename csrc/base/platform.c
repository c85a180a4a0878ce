// platform.c - POSIX. Contract: base/platform.h.                          SPDX-License-Identifier: MIT
#include "base/platform.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/config.h"
#include "base/win32.h"
#if defined(__linux__)
#include <linux/membarrier.h>
#include <sys/syscall.h>
#endif

// On glibc thread-local variables use the initial-exec model. In the default
// model their first use in a thread calls __tls_get_addr, which may call
// malloc: a hooked malloc would then call itself for ever. musl refuses
// initial-exec in a library that is loaded by dlopen.
#if defined(__GLIBC__)
#define FLK_TLS _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define FLK_TLS _Thread_local
#endif

static FLK_TLS void *thread_pointer;
static FLK_TLS flk_marks thread_marks;

static struct {
    pthread_once_t once;
    pthread_key_t key;
    void (*at_exit)(void *);
} platform = {.once = PTHREAD_ONCE_INIT};

// --- asserts -----------------------------------------------------------
static void write_text(const char *text) {
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

void flk_platform_fatal(const char *what, const char *file, int line) {
    char digits[12];
    size_t i = sizeof digits;
    digits[--i] = '\0';
    do {
        digits[--i] = (char)('0' + line % 10);
        line /= 10;
    } while (line > 0 && i > 0);
    write_text("ffi_leak_tracker: broken invariant: ");
    write_text(what);
    write_text(" at ");
    write_text(file);
    write_text(":");
    write_text(digits + i);
    write_text("\nThis is a bug of ffi_leak_tracker; please report it.\n");
    abort();
}

// --- locks -------------------------------------------------------------
enum { SPINS_BEFORE_YIELD = 100 };

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

FLK_NOINLINE void flk_platform_lock_contended(flk_lock *lock) {
    int spins = 0;
    do {
        while (atomic_load_explicit(&lock->word, memory_order_relaxed)) {
            if (++spins < SPINS_BEFORE_YIELD)
                cpu_relax();
            else
                sched_yield();
        }
    } while (atomic_exchange_explicit(&lock->word, 1, memory_order_acquire));
}

#ifdef FLK_DEBUG
// The number of locks of each rank that this thread holds.
static FLK_TLS uint16_t held[FLK_RANK_ARENA + 1];

static _Atomic(bool (*)(void)) is_allowed;

void flk_platform_lock_only_if(bool (*check)(void)) {
    atomic_store(&is_allowed, check);
}

static bool may_lock(uint32_t rank) {
    bool (*check)(void) = atomic_load(&is_allowed);
    bool is_of_events = rank >= FLK_RANK_THREADS && rank != FLK_RANK_CLASSES &&
                        rank != FLK_RANK_OBJECT_TABLE;
    return !check || !is_of_events || check();
}

void flk_platform_lock_note(const flk_lock *lock) {
    FLK_ASSERT(lock->rank > FLK_RANK_NONE && lock->rank <= FLK_RANK_ARENA);
    FLK_ASSERT(may_lock(lock->rank));
    // Locks of equal rank may be held together; locks of a higher rank may not
    // be held.
    for (uint32_t rank = lock->rank + 1; rank <= FLK_RANK_ARENA; rank++)
        FLK_ASSERT(held[rank] == 0);
    held[lock->rank]++;
}

void flk_platform_unlock_note(const flk_lock *lock) {
    FLK_ASSERT(held[lock->rank] > 0);
    held[lock->rank]--;
}
#endif

// --- threads -----------------------------------------------------------
static void thread_ends(void *pointer) {
    if (platform.at_exit)
        platform.at_exit(pointer);
}

static void make_key(void) {
    if (pthread_key_create(&platform.key, thread_ends) != 0)
        flk_platform_fatal("no thread key", __FILE__, __LINE__);
}

void *flk_platform_thread_pointer(void) { return thread_pointer; }

flk_marks *flk_platform_thread_marks(void) { return &thread_marks; }

void flk_platform_thread_set_pointer(void *pointer) {
    FLK_ASSERT(pointer == NULL || thread_pointer == NULL);
    pthread_once(&platform.once, make_key);
    thread_pointer = pointer;
    int saved = errno;
    pthread_setspecific(platform.key, pointer);
    errno = saved;
}

void flk_platform_thread_at_exit(void (*at_exit)(void *)) {
    platform.at_exit = at_exit;
}

uint64_t flk_platform_thread_ident(void) {
    return (uint64_t)(uintptr_t)pthread_self();
}

void flk_platform_pause(void) {
    int saved = errno;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    errno = saved;
}

void flk_platform_yield(void) {
    int saved = errno;
    sched_yield();
    errno = saved;
}

static atomic_uint fences_to_fail;

void flk_platform_fence_fail(uint32_t times) {
    atomic_store(&fences_to_fail, times);
}

static bool fence_must_fail(void) {
    if (FLK_LIKELY(!atomic_load(&fences_to_fail)))
        return false;
    atomic_fetch_sub(&fences_to_fail, 1);
    return true;
}

// Without membarrier(2) a thread's stores are visible within microseconds,
// so a pause of a millisecond serves.
bool flk_platform_fence_threads(void) {
    int saved = errno;
    atomic_thread_fence(memory_order_seq_cst);
    bool is_done = false;
    if (FLK_UNLIKELY(fence_must_fail())) {
        flk_platform_pause();
        return false;
    }
#if defined(__linux__) && defined(SYS_membarrier)
    is_done = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
                      0) == 0 &&
              syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0) == 0;
#endif
    errno = saved;
    if (!is_done)
        flk_platform_pause();
    return is_done;
}

// --- memory ------------------------------------------------------------
size_t flk_platform_page_bytes(void) {
    static atomic_size_t bytes;  // relaxed: all threads store the same value
    size_t known = atomic_load_explicit(&bytes, memory_order_relaxed);
    if (FLK_UNLIKELY(!known)) {
        known = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&bytes, known, memory_order_relaxed);
    }
    return known;
}

#if defined(__linux__)
// The system reads the mask before it looks at the first argument, which is
// invalid: EFAULT or EINVAL, and no mask is changed.
static bool can_read_word(uintptr_t address) {
    enum { NO_CHANGE = -1, MASK_BYTES = 8 };
    FLK_ASSERT(address % MASK_BYTES == 0);
    int saved = errno;
    long done = syscall(SYS_rt_sigprocmask, NO_CHANGE, address, NULL,
                        (size_t)MASK_BYTES);
    bool can = done < 0 && errno == EINVAL;
    errno = saved;
    return can;
}

bool flk_platform_can_read(const void *start, size_t bytes) {
    FLK_ASSERT(bytes > 0);
    size_t page = flk_platform_page_bytes();
    uintptr_t at = (uintptr_t)start & ~(uintptr_t)7;
    uintptr_t last = (uintptr_t)start + bytes - 1;
    if (!start || last < (uintptr_t)start)
        return false;
    for (; at <= last; at = (at | (page - 1)) + 1)
        if (!can_read_word(at))
            return false;
    return true;
}
#else
bool flk_platform_can_read(const void *start, size_t bytes) {
    FLK_ASSERT(bytes > 0);
    return start != NULL;
}
#endif

#if defined(__linux__)
bool flk_platform_memory_copy(int memory_file, uintptr_t from, void *to,
                              size_t bytes) {
    FLK_ASSERT(to && bytes > 0);
    int saved = errno;
    bool done = true;
    for (size_t have = 0; done && have < bytes;) {
        ssize_t got = pread(memory_file, (char *)to + have, bytes - have,
                            (off_t)(from + have));
        done = got > 0;
        have += done ? (size_t)got : 0;
    }
    errno = saved;
    return done;
}
#else
bool flk_platform_memory_copy(int memory_file, uintptr_t from, void *to,
                              size_t bytes) {
    (void)memory_file, (void)from, (void)to, (void)bytes;
    return false;
}
#endif

// --- stacks ------------------------------------------------------------
#if defined(_WIN32)  // no stacks of signal handlers
size_t flk_platform_stack_left(void) { return SIZE_MAX; }
#else
size_t flk_platform_stack_left(void) {
    stack_t stack;
    int saved = errno;
    bool is_known = sigaltstack(NULL, &stack) == 0;
    errno = saved;
    if (!is_known || !(stack.ss_flags & SS_ONSTACK))
        return SIZE_MAX;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    FLK_ASSERT(here > (uintptr_t)stack.ss_sp);
    return here - (uintptr_t)stack.ss_sp;
}
#endif

// --- clocks ------------------------------------------------------------
static uint64_t clock_read(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t flk_platform_clock_coarse(void) {
#ifdef CLOCK_MONOTONIC_COARSE
    return clock_read(CLOCK_MONOTONIC_COARSE);
#else
    return clock_read(CLOCK_MONOTONIC);
#endif
}

uint64_t flk_platform_clock_exact(void) { return clock_read(CLOCK_MONOTONIC); }

uint64_t flk_platform_clock_wall(void) { return clock_read(CLOCK_REALTIME); }

// --- fork --------------------------------------------------------------
void flk_platform_at_fork(void (*prepare)(void), void (*parent)(void),
                          void (*child)(void)) {
    FLK_ASSERT(prepare && parent && child);
    static atomic_uintptr_t known[2];
    for (size_t i = 0; i < 2; i++) {
        uintptr_t here = 0;
        if (atomic_compare_exchange_strong(&known[i], &here,
                                           (uintptr_t)prepare)) {
            pthread_atfork(prepare, parent, child);
            return;
        }
        if (here == (uintptr_t)prepare)
            return;
    }
    flk_platform_fatal("a third set of fork handlers", __FILE__, __LINE__);
}

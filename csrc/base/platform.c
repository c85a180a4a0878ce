// platform.c - POSIX. Contract: base/platform.h.                          SPDX-License-Identifier: MIT
#include "base/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#if !defined(_WIN32)
#include <sys/mman.h>
#include <sys/wait.h>
#endif

#include "base/config.h"
#include "base/win32.h"
#if defined(__linux__)
#include <linux/membarrier.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
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
    atomic_ullong fail_at;  // relaxed: a counter for tests
    atomic_ullong mappings;
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
static bool mapping_must_fail(void) {
    atomic_fetch_add_explicit(&platform.mappings, 1, memory_order_relaxed);
    if (FLK_LIKELY(
            !atomic_load_explicit(&platform.fail_at, memory_order_relaxed)))
        return false;
    return atomic_fetch_sub_explicit(&platform.fail_at, 1,
                                     memory_order_relaxed) == 1;
}

uint64_t flk_platform_pages_fail_at(uint64_t nth) {
    atomic_store_explicit(&platform.fail_at, nth, memory_order_relaxed);
    return atomic_exchange_explicit(&platform.mappings, 0,
                                    memory_order_relaxed);
}

size_t flk_platform_page_bytes(void) {
    static atomic_size_t bytes;  // relaxed: all threads store the same value
    size_t known = atomic_load_explicit(&bytes, memory_order_relaxed);
    if (FLK_UNLIKELY(!known)) {
        known = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&bytes, known, memory_order_relaxed);
    }
    return known;
}

// A list of the core's own mappings. An entry has the number of the first page
// of 4 KiB and, in the lower bits, the number of pages; 0 is a free entry. There
// is no lock: a signal handler may map pages, too.
enum { OWN_PAGE_SHIFT = 12, OWN_COUNT_BITS = 20 };
static struct {
    atomic_ullong entries[FLK_OWN_MAPPINGS_MAX];
    atomic_uint top;       // all entries from here on are free
    atomic_uint may_free;  // no entry below this one was free lately
} own;

static uint64_t own_entry(uintptr_t begin, size_t bytes) {
    FLK_ASSERT(bytes >> OWN_PAGE_SHIFT < UINT64_C(1) << OWN_COUNT_BITS);
    return (uint64_t)(begin >> OWN_PAGE_SHIFT) << OWN_COUNT_BITS |
           bytes >> OWN_PAGE_SHIFT;
}

// Changes the first entry `from` to `to`; false if there is none.
static bool own_change(uint32_t first, uint32_t end, uint64_t from, uint64_t to,
                       uint32_t *where) {
    FLK_ASSERT(first <= end && end <= FLK_OWN_MAPPINGS_MAX);
    for (uint32_t i = first; i < end; i++) {
        unsigned long long expected = from;
        if (atomic_load_explicit(&own.entries[i], memory_order_relaxed) ==
                from &&
            atomic_compare_exchange_strong(&own.entries[i], &expected, to)) {
            *where = i;
            return true;
        }
    }
    return false;
}

static void own_note(uint64_t entry) {
    FLK_ASSERT(entry != 0);
    uint32_t at, first = atomic_load(&own.may_free);
    if (!own_change(first, FLK_OWN_MAPPINGS_MAX, 0, entry, &at) &&
        !own_change(0, first, 0, entry, &at))
        return;
    atomic_store(&own.may_free, at + 1);
    uint32_t top = atomic_load(&own.top);
    while (top <= at && !atomic_compare_exchange_weak(&own.top, &top, at + 1))
        ;
}

static void own_forget(uint64_t entry) {
    uint32_t at;
    if (own_change(0, atomic_load(&own.top), entry, 0, &at) &&
        atomic_load(&own.may_free) > at)
        atomic_store(&own.may_free, at);
}

// Calls for each part of a mapping that fits into one entry.
static void own_each(void *pages, size_t bytes, void (*each)(uint64_t entry)) {
    const size_t most = ((size_t)1 << (OWN_PAGE_SHIFT + OWN_COUNT_BITS)) -
                        ((size_t)1 << OWN_PAGE_SHIFT);
    uintptr_t at = (uintptr_t)pages;
    FLK_ASSERT(at % ((size_t)1 << OWN_PAGE_SHIFT) == 0);
    while (bytes > 0) {
        size_t part = bytes < most ? bytes : most;
        each(own_entry(at, part));
        at += part;
        bytes -= part;
    }
}

size_t flk_platform_pages_own(flk_pair *out, size_t max) {
    FLK_ASSERT(out || max == 0);
    size_t count = 0;
    uint32_t top = atomic_load(&own.top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t entry = atomic_load(&own.entries[i]);
        if (!entry)
            continue;
        uint64_t pages = entry & ((UINT64_C(1) << OWN_COUNT_BITS) - 1);
        uint64_t begin = entry >> OWN_COUNT_BITS << OWN_PAGE_SHIFT;
        if (count < max)
            out[count] = (flk_pair){begin, begin + (pages << OWN_PAGE_SHIFT)};
        count++;
    }
    return count;
}

static void unmap(void *pages, size_t bytes) {
    if (bytes > 0 && munmap(pages, bytes) != 0) {
        if (errno != ENOMEM)
            flk_platform_fatal("munmap failed", __FILE__, __LINE__);
        // At the system's limit of mappings no mapping can be split. The
        // memory is returned, the addresses are lost.
        madvise(pages, bytes, MADV_DONTNEED);
    }
}

void *flk_platform_pages_map(size_t bytes, size_t alignment) {
    FLK_ASSERT(bytes > 0 && bytes % flk_platform_page_bytes() == 0);
    FLK_ASSERT(alignment > 0 && (alignment & (alignment - 1)) == 0);
    if (mapping_must_fail())
        return NULL;
    int saved = errno;
    size_t padded =
        alignment > flk_platform_page_bytes() ? bytes + alignment : bytes;
    char *pages = mmap(NULL, padded, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    errno = saved;
    if (pages == MAP_FAILED)
        return NULL;
    if (padded > bytes) {
        // Unmap what lies before and behind the aligned part.
        size_t before = (size_t)(-(uintptr_t)pages & (alignment - 1));
        unmap(pages, before);
        unmap(pages + before + bytes, alignment - before);
        errno = saved;
        pages += before;
    }
    own_each(pages, bytes, own_note);
    return pages;
}

void *flk_platform_pages_share(size_t bytes) {
    FLK_ASSERT(bytes > 0 && bytes % flk_platform_page_bytes() == 0);
    if (mapping_must_fail())
        return NULL;
    int saved = errno;
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    errno = saved;
    if (pages == MAP_FAILED)
        return NULL;
    own_each(pages, bytes, own_note);
    return pages;
}

void flk_platform_pages_unmap(void *pages, size_t bytes) {
    FLK_ASSERT((uintptr_t)pages % flk_platform_page_bytes() == 0);
    int saved = errno;
    own_each(pages, bytes, own_forget);  // before the addresses are reused
    unmap(pages, bytes);
    errno = saved;
}

void flk_platform_pages_forget(void *pages, size_t bytes) {
    FLK_ASSERT((uintptr_t)pages % flk_platform_page_bytes() == 0);
    int saved = errno;
    madvise(pages, bytes, MADV_DONTNEED);
    errno = saved;
}

bool flk_platform_pages_resident(uintptr_t begin, size_t pages,
                                 unsigned char *out) {
    FLK_ASSERT(out && begin % flk_platform_page_bytes() == 0);
    int saved = errno;
    bool known = mincore((void *)begin, pages * flk_platform_page_bytes(),
                         (void *)out) == 0;  // char * on some systems
    errno = saved;
    for (size_t i = 0; i < pages && known; i++)
        out[i] &= 1;
    return known;
}

#if defined(__linux__)
// PAGEMAP_SCAN of linux/fs.h, which older headers lack.
typedef struct page_region {
    uint64_t start, end, categories;
} page_region;

typedef struct scan_arguments {
    uint64_t size, flags, start, end, walk_end;
    uint64_t regions, region_count, pages_max;
    uint64_t inverted, needed, any_of, returned;
} scan_arguments;

enum {
    PAGE_IN_MEMORY = 1 << 3,
    PAGE_IN_SWAP = 1 << 4,
    PAGE_IS_A_GUARD = 1 << 8
};

// The first region of pages with one of the categories, as long as it is or one
// page of it; the number of regions, 0 or 1; below 0: the system does not tell.
static int next_region(int pagemap_file, uintptr_t begin, uintptr_t end,
                       uint64_t any_of, uint64_t pages_max,
                       page_region *found) {
    FLK_ASSERT(begin < end && begin % flk_platform_page_bytes() == 0);
    scan_arguments arguments = {.size = sizeof arguments,
                                .start = begin,
                                .end = end,
                                .regions = (uintptr_t)found,
                                .region_count = 1,
                                .pages_max = pages_max,
                                .any_of = any_of,
                                .returned = any_of};
    int saved = errno;
    int count = ioctl(pagemap_file, _IOWR('f', 16, scan_arguments), &arguments);
    errno = saved;
    return count;
}

uintptr_t flk_platform_pages_next_used(int pagemap_file, uintptr_t begin,
                                       uintptr_t end) {
    page_region found = {0};
    int count = next_region(pagemap_file, begin, end,
                            PAGE_IN_MEMORY | PAGE_IN_SWAP, 1, &found);
    if (count < 0)
        return begin;
    return count == 0 ? end : (uintptr_t)found.start;
}

bool flk_platform_pages_next_guard(int pagemap_file, uintptr_t begin,
                                   uintptr_t end, uintptr_t *guard_begin,
                                   uintptr_t *guard_end) {
    FLK_ASSERT(guard_begin && guard_end);
    page_region found = {0};
    if (next_region(pagemap_file, begin, end, PAGE_IS_A_GUARD, 0, &found) != 1)
        return false;
    *guard_begin = (uintptr_t)found.start;
    *guard_end = (uintptr_t)found.end;
    return true;
}
#else
uintptr_t flk_platform_pages_next_used(int pagemap_file, uintptr_t begin,
                                       uintptr_t end) {
    (void)pagemap_file, (void)end;
    return begin;
}

bool flk_platform_pages_next_guard(int pagemap_file, uintptr_t begin,
                                   uintptr_t end, uintptr_t *guard_begin,
                                   uintptr_t *guard_end) {
    (void)pagemap_file, (void)begin, (void)end;
    (void)guard_begin, (void)guard_end;
    return false;
}
#endif

bool flk_platform_pages_protect(uintptr_t address, size_t bytes, unsigned may) {
    FLK_ASSERT(bytes > 0 &&
               may <= (FLK_PAGE_READ | FLK_PAGE_WRITE | FLK_PAGE_EXECUTE));
    uintptr_t first = address & ~(uintptr_t)(flk_platform_page_bytes() - 1);
    int protection = (may & FLK_PAGE_READ ? PROT_READ : 0) |
                     (may & FLK_PAGE_WRITE ? PROT_READ | PROT_WRITE : 0) |
                     (may & FLK_PAGE_EXECUTE ? PROT_EXEC : 0);
    int saved = errno;
    bool done =
        mprotect((void *)first, address + bytes - first, protection) == 0;
    errno = saved;
    return done;
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

// --- a child that looks -------------------------------------------------
static atomic_int child_fault;

void flk_platform_child_fail(int how) { atomic_store(&child_fault, how); }

#if defined(__linux__)
enum { CHILD_ENDS_WELL = 0 };

// The child has the descriptors of the program. It closes them, so that readers
// of pipes see their end when the program closes its side.
static void close_descriptors(void) {
#ifdef SYS_close_range
    syscall(SYS_close_range, 3u, ~0u, 0u);
#endif
}

_Noreturn static void run_child(void (*work)(void *), void *context,
                                flk_child_fault fault) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_descriptors();
    // Handlers of the program for faulty accesses would run in the child.
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    if (fault == FLK_CHILD_DIES)
        syscall(SYS_kill, (long)syscall(SYS_getpid), SIGKILL);
    while (fault == FLK_CHILD_HANGS)
        flk_platform_pause();
    work(context);
    for (;;)
        syscall(SYS_exit_group, CHILD_ENDS_WELL);
}

int flk_platform_child_begin(void (*work)(void *), void *context) {
    FLK_ASSERT(work);
    flk_child_fault fault =
        (flk_child_fault)atomic_exchange(&child_fault, FLK_CHILD_SOUND);
    if (fault == FLK_CHILD_REFUSED)
        return -1;
    int saved = errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    // Not fork(), which runs the fork handlers of all libraries and of Python.
    // Without a signal for its end, the child is seen by waits with __WCLONE
    // only, and the program gets no SIGCHLD.
    long child = syscall(SYS_clone, 0L, NULL, NULL, NULL, NULL);
    if (child == 0)
        run_child(work, context, fault);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return child > 0 ? (int)child : -1;
}

flk_child_state flk_platform_child_look(int child) {
    FLK_ASSERT(child > 0);
    int status = 0, saved = errno;
    pid_t ended;
    do
        ended = waitpid(child, &status, WNOHANG | __WCLONE);
    while (ended < 0 && errno == EINTR);
    errno = saved;
    if (ended == 0)
        return FLK_CHILD_RUNS;
    bool is_well = ended == child && WIFEXITED(status) &&
                   WEXITSTATUS(status) == CHILD_ENDS_WELL;
    return is_well ? FLK_CHILD_ENDED : FLK_CHILD_KILLED;
}

void flk_platform_child_kill(int child) {
    FLK_ASSERT(child > 0);
    int saved = errno;
    kill(child, SIGKILL);
    while (waitpid(child, NULL, __WCLONE) < 0 && errno == EINTR)
        ;
    errno = saved;
}

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
int flk_platform_child_begin(void (*work)(void *), void *context) {
    (void)work, (void)context;
    return -1;
}

flk_child_state flk_platform_child_look(int child) {
    (void)child;
    return FLK_CHILD_KILLED;
}

void flk_platform_child_kill(int child) { (void)child; }

bool flk_platform_memory_copy(int memory_file, uintptr_t from, void *to,
                              size_t bytes) {
    (void)memory_file, (void)from, (void)to, (void)bytes;
    return false;
}
#endif

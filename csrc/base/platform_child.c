// platform_child.c - a copy of the process that looks. Contract: base/platform.h.  SPDX-License-Identifier: MIT
#include <errno.h>
#include <signal.h>

#include "base/platform.h"
#if defined(__linux__)
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

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
#endif

// signal.c - a signal as a byte in a pipe. Contract: api/api.h.          SPDX-License-Identifier: MIT
// The handler does nothing but write: what is to be done is done by who reads (self-pipe trick, D. J. Bernstein).
#include "api/api.h"

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { SIGNALS_MAX = 65 };

// One for each signal; begin and end come from Python, one at a time.
static struct bell {
    atomic_int write_end;  // 0 = none: descriptor 0 is never ours
    int read_end;
    pid_t owner;  // not the child of a fork, which has the same pipe
    struct sigaction before;
} bells[SIGNALS_MAX];

static void call_before(const struct sigaction *before, int number,
                        siginfo_t *info, void *context) {
    if (before->sa_flags & SA_SIGINFO)
        before->sa_sigaction(number, info, context);
    else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN)
        before->sa_handler(number);
}

static void ring(int number, siginfo_t *info, void *context) {
    const struct bell *bell = &bells[number];
    int saved = errno;
    int end = atomic_load(&bell->write_end);
    if (end && getpid() == bell->owner) {
        ssize_t written = write(end, "!", 1);
        (void)written;  // full: enough rings are waiting
    }
    call_before(&bell->before, number, info, context);
    errno = saved;
}

static int make_pipe(int ends[2]) {
    if (pipe(ends) < 0)
        return -1;
    for (int i = 0; i < 2; i++)
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    return fcntl(ends[1], F_SETFL, O_NONBLOCK);
}

// Both ends: where nobody reads.
static void close_pipe(struct bell *bell) {
    int end = atomic_exchange(&bell->write_end, 0);
    if (!end)
        return;
    close(end);
    close(bell->read_end);
}

static int install(struct bell *bell, int number) {
    struct sigaction before;
    struct sigaction now = {.sa_sigaction = ring,
                            .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&now.sa_mask);
    if (sigaction(number, &now, &before) < 0)
        return -1;
    if (before.sa_sigaction != ring)
        bell->before = before;
    return 0;
}

int flk_signal_begin(int number) {
    int ends[2];
    if (number <= 0 || number >= SIGNALS_MAX) {
        errno = EINVAL;
        return -1;
    }
    struct bell *bell = &bells[number];
    close_pipe(bell);  // of the parent, in a child
    if (make_pipe(ends) < 0)
        return -1;
    bell->owner = getpid();
    bell->read_end = ends[0];
    atomic_store(&bell->write_end, ends[1]);
    if (install(bell, number) == 0)
        return ends[0];
    close_pipe(bell);
    return -1;
}

void flk_signal_end(int number) {
    struct sigaction now;
    if (number <= 0 || number >= SIGNALS_MAX)
        return;
    struct bell *bell = &bells[number];
    int end = atomic_exchange(&bell->write_end, 0);
    if (!end)
        return;
    // Somebody may have put a handler of theirs on top: it stays.
    if (sigaction(number, NULL, &now) == 0 && now.sa_sigaction == ring)
        sigaction(number, &bell->before, NULL);
    close(end);
}
#else
int flk_signal_begin(int number) { return (void)number, -1; }
void flk_signal_end(int number) { (void)number; }
#endif

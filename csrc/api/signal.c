// signal.c - turns a signal into a byte in a pipe. Contract: api/api.h.  SPDX-License-Identifier: MIT
// The handler only writes to the pipe, which is async-signal-safe; the thread that reads the pipe does the work
// (the self-pipe trick, D. J. Bernstein).
// Invariant: the handler never writes to a descriptor of other code. The write end keeps its number for the life of
// the process: between end and the next begin the number is a read end, where a write fails. Where other code has
// closed the number and opened a file under it, the inode differs and the handler does not write.
#include "api/api.h"

#if !defined(_WIN32)
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include "base/platform.h"

enum { SIGNALS_MAX = 65 };

// One for each signal. Python calls begin and end one at a time.
static struct channel {
    atomic_int write_end;         // 0: none
    atomic_bool is_on;            // between begin and end
    atomic_uint_least64_t inode;  // of the pipe, while is_on
    pid_t owner;  // the process that began; a forked child is another one
    struct sigaction before;
    atomic_int ends_in_ms;  // 0: the signal does not end the process
    atomic_uint met_count;  // signals, if it does
    int timer;              // if it does: sends the signal again
} channels[SIGNALS_MAX];

// --- the timer ---------------------------------------------------------
// By system calls: before glibc 2.34 the functions are in a library of their own. A
// forked child has no timer of its parent.
#if defined(__linux__)
static int make_timer(int signal_number, int *out) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = signal_number};
    return (int)syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, out);
}

static int start_timer(int timer, int ms) {
    FLK_ASSERT(ms > 0);
    struct itimerspec once = {.it_value = {ms / 1000, ms % 1000 * 1000000L}};
    return (int)syscall(SYS_timer_settime, timer, 0, &once, NULL);
}

static void end_timer(int timer) { syscall(SYS_timer_delete, timer); }
#else
static int make_timer(int signal_number, int *out) {
    (void)signal_number, (void)out;
    errno = ENOSYS;
    return -1;
}
static int start_timer(int timer, int ms) { return (void)timer, (void)ms, -1; }
static void end_timer(int timer) { (void)timer; }
#endif

// --- the handler -------------------------------------------------------
static void call_before(const struct sigaction *before, int number,
                        siginfo_t *info, void *context) {
    FLK_ASSERT(before);
    if (before->sa_flags & SA_SIGINFO)
        before->sa_sigaction(number, info, context);
    else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN)
        before->sa_handler(number);
}

// False where other code closed the descriptor and opened another file.
static bool is_own_pipe(const struct channel *channel, int end) {
    FLK_ASSERT(channel && end >= 0);
    struct stat status;
    return fstat(end, &status) == 0 && S_ISFIFO(status.st_mode) &&
           status.st_ino == (ino_t)atomic_load(&channel->inode);
}

// The default action, as soon as the handler returns.
static void end_process(int number) {
    struct sigaction usual = {.sa_handler = SIG_DFL};
    FLK_ASSERT(number > 0 && number < SIGNALS_MAX);
    sigemptyset(&usual.sa_mask);
    sigaction(number, &usual, NULL);
    raise(number);
}

static void tell(const struct channel *channel) {
    ssize_t written = write(atomic_load(&channel->write_end), "!", 1);
    (void)written;  // it fails if the pipe is full: enough bytes wait
}

static void on_signal(int number, siginfo_t *info, void *context) {
    FLK_ASSERT(number > 0 && number < SIGNALS_MAX);
    struct channel *channel = &channels[number];
    int saved = errno, ends_in_ms = atomic_load(&channel->ends_in_ms);
    bool may_tell = atomic_load(&channel->is_on) &&
                    getpid() == channel->owner &&
                    is_own_pipe(channel, atomic_load(&channel->write_end));
    bool is_first =
        !ends_in_ms || atomic_fetch_add(&channel->met_count, 1) == 0;
    if (may_tell && is_first &&
        (!ends_in_ms || start_timer(channel->timer, ends_in_ms) == 0))
        tell(channel);
    else if (ends_in_ms)
        end_process(number);
    call_before(&channel->before, number, info, context);
    errno = saved;
}

// --- the pipe ----------------------------------------------------------
static void close_both(const int ends[2]) {
    close(ends[0]);
    close(ends[1]);
}

static int make_pipe(int ends[2]) {
    if (pipe(ends) < 0)
        return -1;
    FLK_ASSERT(ends[0] != ends[1]);
    if (fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 &&
        fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0 &&
        fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0)
        return 0;
    close_both(ends);
    return -1;
}

// Makes the channel's number refer to the file of `end`. A channel without a
// number takes that of `end`, else `end` is closed. -1: nothing changed.
static int point_to(struct channel *channel, int end) {
    int number = atomic_load(&channel->write_end);
    struct stat status;
    FLK_ASSERT(end >= 0 && number >= 0 && number != end);
    if (fstat(end, &status) < 0)
        return -1;
    if (number && is_own_pipe(channel, number)) {
        if (dup2(end, number) < 0)
            return -1;
        close(end);
    } else {
        number = end;
    }
    fcntl(number, F_SETFD, FD_CLOEXEC);
    atomic_store(&channel->inode, (uint64_t)status.st_ino);
    atomic_store(&channel->write_end, number);
    return 0;
}

// The reader meets the end of file. Without a free descriptor the number is
// given up.
static void end_pipe(struct channel *channel) {
    int ends[2], number = atomic_load(&channel->write_end);
    FLK_ASSERT(!atomic_load(&channel->is_on));
    if (!number || !is_own_pipe(channel, number)) {
        atomic_store(&channel->write_end, 0);
    } else if (make_pipe(ends) == 0) {
        if (point_to(channel, ends[0]) < 0)
            close(ends[0]);
        close(ends[1]);
    } else {
        atomic_store(&channel->write_end, 0);
        close(number);
    }
}

// --- begin and end -----------------------------------------------------
// The earlier handler is stored first, since the new one may run at once.
static int install(struct channel *channel, int number) {
    FLK_ASSERT(number > 0 && number < SIGNALS_MAX);
    struct sigaction before;
    struct sigaction now = {.sa_sigaction = on_signal,
                            .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&now.sa_mask);
    if (sigaction(number, NULL, &before) < 0)
        return -1;
    now.sa_flags |= before.sa_flags & SA_ONSTACK;
    if (before.sa_sigaction != on_signal)
        channel->before = before;
    return sigaction(number, &now, NULL);
}

// Apart from the handler here, which a forked child has, too.
static bool has_usual_action(const struct channel *channel, int number) {
    struct sigaction now;
    FLK_ASSERT(channel == &channels[number]);
    if (sigaction(number, NULL, &now) < 0)
        return false;
    if (now.sa_sigaction == on_signal)
        now = channel->before;
    return now.sa_handler == SIG_DFL;
}

static int begin_ending(struct channel *channel, int number, int ends_in_ms) {
    FLK_ASSERT(channel == &channels[number] && ends_in_ms >= 0);
    atomic_store(&channel->met_count, 0);
    atomic_store(&channel->ends_in_ms, 0);
    if (!ends_in_ms)
        return 0;
    if (!has_usual_action(channel, number)) {
        errno = EBUSY;
        return -1;
    }
    if (make_timer(number, &channel->timer) < 0)
        return -1;
    atomic_store(&channel->ends_in_ms, ends_in_ms);
    return 0;
}

static void give_up(struct channel *channel) {
    atomic_store(&channel->is_on, false);
    if (atomic_exchange(&channel->ends_in_ms, 0) && channel->owner == getpid())
        end_timer(channel->timer);
}

static int begin(struct channel *channel, int number, int ends_in_ms) {
    int ends[2];
    FLK_ASSERT(channel == &channels[number]);
    if (begin_ending(channel, number, ends_in_ms) < 0 || make_pipe(ends) < 0)
        return -1;
    if (point_to(channel, ends[1]) < 0) {
        close_both(ends);
        return -1;
    }
    channel->owner = getpid();
    atomic_store(&channel->is_on, true);
    if (install(channel, number) == 0)
        return ends[0];
    int saved = errno;
    atomic_store(&channel->is_on, false);
    end_pipe(channel);
    close(ends[0]);
    errno = saved;
    return -1;
}

int flk_signal_begin(int number, int ends_in_ms) {
    if (number <= 0 || number >= SIGNALS_MAX || ends_in_ms < 0) {
        errno = EINVAL;
        return -1;
    }
    struct channel *channel = &channels[number];
    atomic_store(&channel->is_on, false);
    int end = begin(channel, number, ends_in_ms);
    int saved = errno;
    if (end < 0)
        give_up(channel);
    errno = saved;
    return end;
}

void flk_signal_end(int number) {
    struct sigaction now;
    if (number <= 0 || number >= SIGNALS_MAX)
        return;
    struct channel *channel = &channels[number];
    if (!atomic_load(&channel->is_on))
        return;
    FLK_ASSERT(atomic_load(&channel->write_end) > 0);
    give_up(channel);
    // A later handler stays; it may call the one here, which
    // calls the earlier one.
    if (sigaction(number, NULL, &now) == 0 && now.sa_sigaction == on_signal)
        sigaction(number, &channel->before, NULL);
    end_pipe(channel);
}
#else
int flk_signal_begin(int number, int ends_in_ms) {
    return (void)number, (void)ends_in_ms, -1;
}
void flk_signal_end(int number) { (void)number; }
#endif

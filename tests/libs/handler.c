// handler.c - a signal handler that takes a block and gives it back.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

// A size that little else has: the C library keeps such blocks for the thread,
// and takes none of its locks for them, which the interrupted code may hold.
enum { SIZE = 1016, KEPT = 7 };
static volatile sig_atomic_t count;

static void take_and_give(int number) {
    int before = errno;
    free(malloc(SIZE));
    count++;
    errno = before;
}
void start_signals(int microseconds) {
    void *kept[KEPT];
    for (int i = 0; i < KEPT; i++)
        kept[i] = malloc(SIZE);
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
    struct sigaction action = {.sa_handler = take_and_give,
                               .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, 0);
    struct itimerval often = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &often, 0);
}
int stop_signals(void) {
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, 0);
    return count;
}

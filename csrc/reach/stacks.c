// stacks.c - reads /proc/self/task. Contract: reach/stacks.h.              SPDX-License-Identifier: MIT
#include "reach/stacks.h"

#include "base/platform.h"

#if defined(__linux__)
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILE_BYTES = 256 };

// Reads /proc/self/task/<thread>/<name> into `text`; false if it cannot.
static bool read_task_file(const char *thread, const char *name,
                           char text[FILE_BYTES]) {
    char path[64] = "/proc/self/task/";
    FLK_ASSERT(strlen(path) + strlen(thread) + strlen(name) + 2 < sizeof path);
    strcat(path, thread);
    strcat(path, "/");
    strcat(path, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    ssize_t got = read(file, text, FILE_BYTES - 1);
    close(file);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

// The third number of schedstat: how often the thread got a processor; 0 if the
// system does not count.
static uint64_t turns_of(const char *thread) {
    char text[FILE_BYTES];
    char *at = text;
    if (!read_task_file(thread, "schedstat", text))
        return 0;
    strtoull(at, &at, 10);
    strtoull(at, &at, 10);
    return strtoull(at, &at, 10);
}

// The file has "running", or the number of the system call (-1: none), its
// arguments, the stack pointer and the program counter.
static void read_waiting(const char *thread, flk_stack *out) {
    char text[FILE_BYTES];
    char *at = text;
    out->is_still = false;
    if (out->turns == 0 || !read_task_file(thread, "syscall", text) ||
        text[0] == 'r')
        return;
    long call = strtol(at, &at, 10);
    for (int i = 0; i < FLK_STACK_ARGUMENTS; i++)
        out->arguments[i] = call < 0 ? 0 : strtoull(at, &at, 16);
    out->pointer = strtoull(at, &at, 16);
    out->is_still = out->pointer != 0;
}

typedef void (*task_visitor)(const char *name, flk_stacks *stacks);

// Not opendir(), which calls malloc.
static void each_other_task(flk_stacks *stacks, task_visitor visit) {
    struct entry {
        uint64_t inode, offset;
        unsigned short bytes;
        unsigned char type;
        char name[];
    };
    _Alignas(8) char buffer[2048];
    long self = syscall(SYS_gettid);
    int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return;
    long got;
    while ((got = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < got;) {
            const struct entry *one = (const void *)(buffer + at);
            at += one->bytes;
            if (one->name[0] != '.' && strtol(one->name, NULL, 10) != self)
                visit(one->name, stacks);
        }
    close(folder);
}

static void note(const char *name, flk_stacks *stacks) {
    FLK_ASSERT(stacks->count <= FLK_STACKS_MAX);
    if (stacks->count == FLK_STACKS_MAX)
        return;
    flk_stack *one = &stacks->items[stacks->count++];
    one->thread_id = (uint32_t)strtoul(name, NULL, 10);
    one->turns = turns_of(name);
    read_waiting(name, one);
}

static void confirm(const char *name, flk_stacks *stacks) {
    uint32_t thread_id = (uint32_t)strtoul(name, NULL, 10);
    for (uint32_t i = 0; i < stacks->count; i++)
        if (stacks->items[i].thread_id == thread_id) {
            flk_stack *one = &stacks->items[i];
            one->is_still = one->is_still && one->turns == turns_of(name);
            stacks->moving_count += !one->is_still;
            return;
        }
    stacks->moving_count++;
}

// --- ended threads ---------------------------------------------------------
// glibc's struct pthread begins with its own address (tcb), another word, and
// its own address again (self). On x86-64 the number of the thread follows, and
// 16 bytes behind it the list of robust mutexes. The system tells the address of
// that list. The number alone proves nothing: in a container it may be 1, as
// other fields are.
enum { OWN_AT = 0, OWN_AGAIN_AT = 16, DATA_ALIGNMENT = 64 };
enum { ID_AT = 720, ROBUST_LIST_AT = 736 };

static uint32_t find_id_offset(void) {
#if defined(__GLIBC__) && defined(__x86_64__)
    uintptr_t own = (uintptr_t)flk_platform_thread_ident();
    int32_t number = (int32_t)syscall(SYS_gettid);
    uintptr_t list = 0;
    size_t bytes = 0;
    if (syscall(SYS_get_robust_list, 0, &list, &bytes) == 0 &&
        list == own + ROBUST_LIST_AT &&
        memcmp((const char *)own + ID_AT, &number, sizeof number) == 0)
        return ID_AT;
#endif
    return 0;
}

static bool has_ended(const flk_stacks *stacks, uintptr_t thread) {
    const char *data = (const char *)thread;
    uintptr_t own, again;
    int32_t number;
    memcpy(&own, data + OWN_AT, sizeof own);
    memcpy(&again, data + OWN_AGAIN_AT, sizeof again);
    memcpy(&number, data + stacks->id_offset, sizeof number);
    return own == thread && again == thread && number == 0;
}

uintptr_t flk_stacks_ended_thread(const flk_stacks *stacks, uintptr_t begin,
                                  uintptr_t end, uintptr_t limit) {
    FLK_ASSERT(stacks && begin <= end && end <= limit);
    size_t needed = stacks->id_offset + sizeof(int32_t);
    uintptr_t at =
        (begin + DATA_ALIGNMENT - 1) & ~(uintptr_t)(DATA_ALIGNMENT - 1);
    for (; stacks->id_offset && at < end && limit - at >= needed;
         at += DATA_ALIGNMENT)
        if (has_ended(stacks, at))
            return at;
    return 0;
}

void flk_stacks_note(flk_stacks *stacks) {
    FLK_ASSERT(stacks);
    int saved = errno;
    stacks->count = stacks->moving_count = 0;
    stacks->id_offset = find_id_offset();
    each_other_task(stacks, note);
    errno = saved;
}

void flk_stacks_confirm(flk_stacks *stacks) {
    FLK_ASSERT(stacks && stacks->count <= FLK_STACKS_MAX);
    int saved = errno;
    stacks->moving_count = 0;
    each_other_task(stacks, confirm);
    errno = saved;
}
#else
void flk_stacks_note(flk_stacks *stacks) { stacks->count = 0; }
void flk_stacks_confirm(flk_stacks *stacks) { (void)stacks; }
uintptr_t flk_stacks_ended_thread(const flk_stacks *stacks, uintptr_t begin,
                                  uintptr_t end, uintptr_t limit) {
    (void)stacks, (void)begin, (void)end, (void)limit;
    return 0;
}
#endif

// Allocates in a signal handler that runs on an alternate stack of given size.
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GUARD_BYTES = 4096, PAINT = 0xA5, SIZE_BYTES = 48 };

static void *block;
static uintptr_t used_from;

static void allocate(int number) {
    used_from = (uintptr_t)__builtin_frame_address(0);
    block = malloc(SIZE_BYTES);
}

// An overflow meets a page that may not be touched.
static char *map_stack(size_t bytes) {
    char *pages = mmap(NULL, GUARD_BYTES + bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages, GUARD_BYTES, PROT_NONE);
    memset(pages + GUARD_BYTES, PAINT, bytes);
    return pages + GUARD_BYTES;
}

static void raise_on(char *begin, size_t bytes, void (*handler)(int)) {
    stack_t stack = {.ss_sp = begin, .ss_size = bytes}, before;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    struct sigaction old;
    sigaltstack(&stack, &before);
    sigaction(SIGUSR2, &action, &old);
    raise(SIGUSR2);
    sigaction(SIGUSR2, &old, NULL);
    sigaltstack(&before, NULL);
}

// Bytes of the stack that the handler used below its own frame.
size_t take_on_stack(size_t bytes) {
    char *begin = map_stack(bytes);
    raise_on(begin, bytes, allocate);
    char *lowest = begin;
    while (*lowest == (char)PAINT)
        lowest++;
    size_t used = used_from - (uintptr_t)lowest;
    munmap(begin - GUARD_BYTES, GUARD_BYTES + bytes);
    return used;
}

// What the kernel puts on an alternate stack before the handler runs. The most
// that it may put (AT_MINSIGSTKSZ) is more on processors with large registers.
static void note_frame(int number) {
    used_from = (uintptr_t)__builtin_frame_address(0);
}
size_t frame_bytes(void) {
    enum { LARGE = 65536 };
    char *begin = map_stack(LARGE);
    raise_on(begin, LARGE, note_frame);
    size_t used = (uintptr_t)begin + LARGE - used_from;
    munmap(begin - GUARD_BYTES, GUARD_BYTES + LARGE);
    return used;
}

uintptr_t taken(void) {
    return (uintptr_t)block;
}

void give(void) {
    free(block);
}

// native_frames.c - a library whose calls are told apart. Compiled by test_native_frames.py.
#include <stdlib.h>

#define KEEP __asm__ volatile("")

static __attribute__((noinline)) void *take_inside(size_t n) {
    void *p = malloc(n);  // LINE: inside
    KEEP;
    return p;
}

void *take(size_t n) {
    void *p = take_inside(n);
    KEEP;
    return p;
}

static int compare(const void *a, const void *b) {
    void **room = *(void ***)a;
    if (!*room)
        *room = malloc(33);
    return *(char *)a - *(char *)b;
}

void *take_in_callback(void) {
    void *kept = NULL;
    void **pairs[2] = {&kept, &kept};
    qsort(pairs, 2, sizeof *pairs, compare);
    return kept;
}

void *take_by(void *(*callback)(size_t), size_t n) {
    void *p = callback(n);
    KEEP;
    return p;
}

void give(void *p) { free(p); }

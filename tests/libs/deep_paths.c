// deep_paths.c - one function, several ways down to an allocation.
#include <stdlib.h>

#define DEEP __attribute__((noinline))
static DEEP void *inner(size_t size) {
    void *block = malloc(size);
    __asm__ volatile("" : "+r"(block));
    return block;
}
static DEEP void *node(size_t size) {
    void *block = inner(size + 32);
    __asm__ volatile("" : "+r"(block));
    return block;
}
static DEEP void *table(size_t size) {
    void *block = calloc(1, size + 100);
    __asm__ volatile("" : "+r"(block));
    return block;
}
void *load(int kind) {
    void *block = node(10);
    if (kind % 2)
        block = table(20);
    if (kind > 0)
        block = inner(30);
    __asm__ volatile("" : "+r"(block));
    return block;
}

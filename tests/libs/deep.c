// deep.c - takes a block below so many C frames.
#include <stdlib.h>

void *take_below(int depth, size_t size) {
    void *block = depth > 0 ? take_below(depth - 1, size) : malloc(size);
    __asm__ volatile("" ::: "memory");
    return block;
}

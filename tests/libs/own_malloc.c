// own_malloc.c - a library that exports malloc and free, over the C library's.
#include <stddef.h>

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);

void *malloc(size_t size) { return __libc_malloc(size); }
void free(void *block) { __libc_free(block); }
void *plain(void) { void *block = malloc(300); return block ? block : malloc(1); }
void give(void *block) { free(block); }

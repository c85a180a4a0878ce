// hidden.c - frees in a way that no hook sees: malloc's own, found before.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// In the heap, where attach() does not look for copies.
static struct {
    void (*free)(void *);
    void *(*malloc)(size_t);
} *real;

__attribute__((constructor)) static void keep(void) {
    // Not RTLD_DEFAULT: a program that is not PIE may have a stub of its own.
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    real = malloc(sizeof *real);
    real->free = dlsym(libc, "free");
    real->malloc = dlsym(libc, "malloc");
}
void *take(size_t size) { return malloc(size); }
void give(void *block) { free(block); }
void give_unseen(void *block) { real->free(block); }
void *take_unseen(size_t size) { return real->malloc(size); }

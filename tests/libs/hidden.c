// hidden.c - frees in a way that no hook sees: malloc's own, found before.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void (*real_free)(void *);
static void *(*real_malloc)(size_t);

__attribute__((constructor)) static void keep(void) {
    // Not RTLD_DEFAULT: a program that is not PIE may have a stub of its own.
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    real_free = dlsym(libc, "free");
    real_malloc = dlsym(libc, "malloc");
}
void *take(size_t size) { return malloc(size); }
void give(void *block) { free(block); }
void give_unseen(void *block) { real_free(block); }
void *take_unseen(size_t size) { return real_malloc(size); }

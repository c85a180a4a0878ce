// at_end.c - allocates in a destructor, after the interpreter's end.
#include <stdio.h>
#include <stdlib.h>

void *take(size_t size) { return malloc(size); }
__attribute__((destructor)) static void at_end(void) {
    for (int i = 0; i < 1000; i++)
        free(realloc(malloc(i), 2 * i + 1));
    fputs("destructor ran\n", stdout);
    fflush(stdout);
}

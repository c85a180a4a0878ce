// events.c - the native loops of bench_instructions.py.                     SPDX-License-Identifier: MIT
// One allocation and its release in each turn, by the functions that hooks treat in different ways.
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
#define HIDE(p) __asm__ volatile("" : "+r"(p)::"memory")

// operator new(unsigned long) and operator delete(void *, unsigned long), as a
// compiler calls them for `new T` and `delete t` since C++14.
extern void *_Znwm(size_t bytes);
extern void _ZdlPvm(void *block, size_t bytes);

static NOINLINE void pair(void) {
    void *block = malloc(64);
    HIDE(block);
    free(block);
}

static NOINLINE void copied_text(void) {
    const char *text = "a text of thirty-three characters";
    HIDE(text);
    free(strdup(text));
}

static NOINLINE void object(void) {
    void *made = _Znwm(64);
    HIDE(made);
    _ZdlPvm(made, 64);
}

void pairs(long n) {
    for (long i = 0; i < n; i++)
        pair();
}

void copied_texts(long n) {
    for (long i = 0; i < n; i++)
        copied_text();
}

void objects(long n) {
    for (long i = 0; i < n; i++)
        object();
}

// Each block is another one, at addresses all over some pages, as in programs.
enum { BLOCKS = 256 };

void pairs_in_turn(long n) {
    static void *blocks[BLOCKS];
    for (long i = 0; i < n; i++) {
        free(blocks[i % BLOCKS]);
        blocks[i % BLOCKS] = malloc(64);
    }
}

// Blocks that stay allocated, so that the registry has blocks near those of
// the loops.
void keep(long n) {
    for (long i = 0; i < n; i++) {
        void *block = malloc(64);
        HIDE(block);
    }
}

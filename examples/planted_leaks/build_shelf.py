"""Tells cffi how to compile the library of the shelf."""

import cffi

CDEF = """
typedef struct shelf shelf_t;
typedef struct { int width; char *label; } box_t;

shelf_t *shelf_open(const char *name, int width);
void shelf_close(shelf_t *shelf);
char *shelf_name(const shelf_t *shelf);
void shelf_name_free(char *name);
box_t *box_new(int width, const char *label);
void box_free(box_t *box);
void box_free_shallow(box_t *box);
int *counts_new(int n);
void counts_delete(int *counts);
void counts_delete_array(int *counts);
int lookup(const char *word);
int remember(const char *word);
size_t remembered(void);
void each(int n, int (*callback)(int, void *), void *userdata);
extern "Python" int on_each(int, void *);
"""

SOURCE = r"""
#include <cstdlib>
#include <cstring>

struct shelf { char *name; int *slots; };
typedef struct shelf shelf_t;
typedef struct { int width; char *label; } box_t;

extern "C" {

/* Leak 1, the error path: the shelf and its name stay if the width is bad. */
static shelf_t *shelf_open(const char *name, int width) {
    shelf_t *made = (shelf_t *)malloc(sizeof *made);
    made->name = strdup(name);
    if (width <= 0)
        return NULL;
    made->slots = (int *)calloc((size_t)width, sizeof(int));
    return made;
}

static void shelf_close(shelf_t *shelf) {
    free(shelf->slots);
    free(shelf->name);
    free(shelf);
}

/* The caller owns the text. */
static char *shelf_name(const shelf_t *shelf) { return strdup(shelf->name); }
static void shelf_name_free(char *name) { free(name); }

static box_t *box_new(int width, const char *label) {
    box_t *made = (box_t *)malloc(sizeof *made);
    made->width = width;
    made->label = strdup(label);
    return made;
}

static void box_free(box_t *box) {
    free(box->label);
    free(box);
}

/* Leak 3, a shallow destructor: the label stays. */
static void box_free_shallow(box_t *box) { free(box); }

static int *counts_new(int n) { return new int[n](); }
static void counts_delete(int *counts) { delete counts; }
static void counts_delete_array(int *counts) { delete[] counts; }

/* A cache that fills once: no leak. */
static int lookup(const char *word) {
    static char *known;
    if (known == NULL)
        known = strdup(word);
    return known[0];
}

/* Leak 6, a cache that grows with each call. */
static struct entry { struct entry *next; char *word; } *entries;
static size_t entries_made;
static int remember(const char *word) {
    struct entry *made = (struct entry *)malloc(sizeof *made);
    made->next = entries;
    made->word = strdup(word);
    entries = made;
    entries_made++;
    return made->word[0];
}
static size_t remembered(void) { return entries_made; }

static void each(int n, int (*callback)(int, void *), void *userdata) {
    for (int i = 0; i < n; i++)
        callback(i, userdata);
}
}
"""

ffibuilder = cffi.FFI()
ffibuilder.cdef(CDEF)
ffibuilder.set_source("planted_leaks._shelf", SOURCE, source_extension=".cpp")

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)

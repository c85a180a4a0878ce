// trees.c - a library of trees. Its functions create, share and free objects in
// each usual way.
#include <stdlib.h>
#include <string.h>

#ifndef TREES_TYPES
#define TREES_TYPES
struct tree;
struct leaf;
typedef struct {
    char **items;
    size_t count;
} names;
typedef int (*compare)(const void *, const void *);
typedef struct {
    compare order;
    int number;
} sorter;
#endif

struct tree {
    int references;
    void *memory;
};
struct leaf {
    struct leaf *next;
    int value;
};
enum { SMALL = 3 };
#define LIMIT 64
int planted = 7;
int frees = 0;

// --- owned results ----------------------------------------------------------
struct tree *tree_new(void) {
    struct tree *made = calloc(1, sizeof *made);
    made->references = 1;
    return made;
}
struct tree *tree_root(struct tree *one) {
    return one;
}
void tree_free(struct tree *one) {
    if (!one || --one->references > 0)
        return;
    frees++;
    free(one->memory);
    free(one);
}
void tree_drop(struct tree *one) {
    tree_free(one);
}
struct tree *tree_ref(struct tree *one) {
    one->references++;
    return one;
}
void tree_unref(struct tree *one) {
    tree_free(one);
}
char *tree_name(struct tree *one) {
    return strdup("oak");
}
void text_free(void *text) {
    free(text);
}

// --- out-parameters ------------------------------------------------------------
int tree_open(struct tree **out, int fail) {
    if (fail)
        return -fail;
    *out = tree_new();
    return 0;
}
void tree_close(struct tree **one) {
    tree_free(*one);
    *one = NULL;
}
int names_read(names *out, int count) {
    out->items = calloc((size_t)count, sizeof *out->items);
    out->count = (size_t)count;
    return 0;
}
void names_free(names *one) {
    free(one->items);
    one->items = NULL;
}

// --- chains and transfers --------------------------------------------------------
struct leaf *leaf_append(struct leaf *list, int value) {
    if (value < 0)
        return NULL;
    struct leaf *made = calloc(1, sizeof *made);
    made->value = value;
    if (!list)
        return made;
    struct leaf *last = list;
    while (last->next)
        last = last->next;
    last->next = made;
    return list;
}
struct leaf *leaf_prepend(struct leaf *list, int value) {
    struct leaf *made = calloc(1, sizeof *made);
    made->value = value;
    made->next = list;
    return made;
}
void leaf_free_all(struct leaf *list) {
    while (list) {
        struct leaf *next = list->next;
        free(list);
        list = next;
    }
}
int tree_take(struct tree *one, void *memory) {
    if (!memory)
        return -1;
    free(one->memory);
    one->memory = memory;
    return 0;
}
void *get_memory(size_t bytes) {
    return malloc(bytes);
}
void drop_memory(void *memory) {
    free(memory);
}

// --- functions as values ------------------------------------------------------------
int ascending(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}
void sort_with(int *numbers, size_t count, compare order) {
    qsort(numbers, count, sizeof *numbers, order);
}
void call_with(void (*function)(struct tree *), struct tree *one) {
    function(one);
}

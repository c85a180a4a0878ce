// Objects whose destructors are variables that point to functions.
#include <stdlib.h>

struct box {
    int number;
};
int box_frees;

static void free_one(struct box *it) {
    box_frees += 1;
    free(it);
}

static void free_other(struct box *it) {
    box_frees += 100;
    free(it);
}

void (*box_free)(struct box *) = free_one;
void (*box_drop)(struct box *) = free_other;
void (*box_hook)(struct box *) = NULL;

struct box *box_new(void) {
    return calloc(1, sizeof(struct box));
}

void box_change(void) {
    box_free = free_other;
}

void box_plain_free(struct box *it) {
    free_one(it);
}

// forest.c - trees with names and children, for handles over recorded blocks.
#include <stdlib.h>
#include <string.h>

struct tree {
    struct tree *child;
    char *name;
};
struct tree *tree_new(const char *name, struct tree *child) {
    struct tree *made = calloc(1, sizeof *made);
    made->name = malloc(100);
    strcpy(made->name, name);
    made->child = child;
    return made;
}
void tree_free(struct tree *one) {
    free(one->name);
    free(one);
}
char *text_new(void) {
    return malloc(30);
}
int tree_close(struct tree *one) {
    tree_free(one);
    return 7;
}
// These release an object and most likely get its memory for the next one.
struct tree *tree_renew(struct tree *one) {
    tree_free(one);
    return tree_new("new", NULL);
}
int tree_reopen(struct tree **one) {
    *one = tree_renew(*one);
    return 0;
}

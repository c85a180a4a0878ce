// reporter.c - reports its objects itself, with ffi_leak_tracker.h.
#include <errno.h>
#include <ffi_leak_tracker.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct node {
    struct node *next;
} node;

static ffilt_type a_node = FFILT_TYPE("struct node", "node_new", "node_free");
static ffilt_type a_list =
    FFILT_TYPE("struct list", "node_new", "list_free or list_drop");

void *node_new(void) {
    node *made = calloc(1, sizeof *made);
    errno = 77;
    ffilt_track(made, sizeof *made, &a_node);
    return errno == 77 ? made : NULL;
}
int node_free(void *one) {
    int told = ffilt_released(one, "node_free");
    free(one);
    return told;
}
int list_drop(void *one) {
    int told = ffilt_released(one, "list_drop");
    free(one);
    return told;
}
int node_forget(void *one) {
    int told = ffilt_untrack(one);
    free(one);
    return told;
}
int node_refer(void *one) { return ffilt_refer(one, sizeof(node), &a_node); }
int node_unref(void *one) { return ffilt_released(one, "node_free"); }
int node_to_list(void *one) { return ffilt_retype(one, &a_list); }
int is_recorded(void) { return ffilt_is_enabled(); }
unsigned long long here(void) { return ffilt_scope_here(); }
void *node_in(unsigned long long scope) {
    node *made = calloc(1, sizeof *made);
    return ffilt_track_in(scope, made, sizeof *made, &a_node) ? made : NULL;
}
static unsigned long long scope_of_thread;
static void *make(void *unused) { return node_in(scope_of_thread); }
void *node_of_thread(unsigned long long scope) {
    pthread_t thread;
    void *made = NULL;
    scope_of_thread = scope;
    pthread_create(&thread, NULL, make, NULL);
    pthread_join(thread, &made);
    return made;
}
int nothing_is_refused(void) {
    return ffilt_track(NULL, 1, &a_node) + ffilt_untrack(NULL) +
           ffilt_refer(NULL, 1, &a_node) + ffilt_released(NULL, "node_free") +
           ffilt_retype(NULL, &a_list);
}
static void *busy(void *unused) {
    for (int i = 0; i < 2000; i++) {
        void *one = node_new();
        node_to_list(one);
        if (!one || list_drop(one) < 0)
            return "lost";
    }
    return NULL;
}
static node shared;
static void *refer_often(void *unused) {
    int counted = 0;
    for (int i = 0; i < 20000; i++)
        counted += node_refer(&shared) + node_unref(&shared);
    return counted == 40000 ? NULL : "lost";
}
static int in_threads(void *(*work)(void *)) {
    pthread_t threads[4];
    int lost = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        lost += result != NULL;
    }
    return lost;
}
// All references but one are gone at the end, and then that one.
int references_agree(void) {
    node_refer(&shared);
    int lost = in_threads(refer_often);
    return lost || node_unref(&shared) != 1 || node_unref(&shared) != 0;
}
int threads_agree(void) { return in_threads(busy); }

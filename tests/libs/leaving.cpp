// leaving.cpp - functions of the C library that are left, or that call back.
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

static jmp_buf back;
static ssize_t jump(void *, char *, size_t) { longjmp(back, 1); }
static ssize_t raise(void *, char *, size_t) { throw 1; }
static FILE *stream_of(cookie_read_function_t *read) {
    cookie_io_functions_t functions = {read, 0, 0, 0};
    return fopencookie(0, "r", functions);
}

extern "C" {
static FILE *left;
void leave_by_longjmp(void) {
    char *line = 0;
    size_t room = 0;
    left = stream_of(jump);
    if (setjmp(back) == 0)
        getdelim(&line, &room, 'x', left);
}
void leave_by_exception(void) {
    char *line = 0;
    size_t room = 0;
    left = stream_of(raise);
    try {
        getdelim(&line, &room, 'x', left);
    } catch (int) {
    }
}
void *copied(const char *text) {
    char *copy = strdup(text);
    return copy ? copy : 0;
}
void *printed(int number) {
    char *text = 0;
    return asprintf(&text, "number %d", number) < 0 ? 0 : text;
}
void release(void *block) { free(block); }

// --- cancellation ----------------------------------------------------------
static void *kept;
static int ends[2];
static void clean_up(void *) { kept = strdup("kept by the handler"); }
static void *read_for_ever(void *) {
    char *line = 0;
    size_t room = 0;
    FILE *file = fdopen(ends[0], "r");
    pthread_cleanup_push(clean_up, 0);
    getdelim(&line, &room, 'x', file);
    pthread_cleanup_pop(0);
    return 0;
}
void *cancelled(void) {
    pthread_t thread;
    if (pipe(ends) || pthread_create(&thread, 0, read_for_ever, 0))
        abort();
    usleep(100000);
    pthread_cancel(thread);
    pthread_join(thread, 0);
    return kept;
}

// --- callbacks -------------------------------------------------------------
// fwide and the first text that is written make the C library allocate.
static FILE *wide;
static int filter(const struct dirent *one) {
    if (!wide) {
        wide = fopen("/dev/null", "w");
        fwprintf(wide, L"%ls", L"text");
    }
    return strcmp(one->d_name, "self") == 0;
}
void *list_folder(void) {
    struct dirent **list = 0;
    return scandir("/proc", &list, filter, 0) == 1 ? list : 0;
}
void release_list(void *list) {
    fclose(wide);
    wide = 0;
    free(((void **)list)[0]);
    free(list);
}
static int depth;
static ssize_t nested(void *, char *to, size_t) {
    char *line = 0;
    size_t room = 0;
    if (depth-- <= 0)
        return 0;
    FILE *file = stream_of(nested);
    if (getdelim(&line, &room, 'x', file) < 0)
        line[0] = 0;
    fclose(file);
    free(line);
    kept = strdup("kept in a callback");
    memcpy(to, "abcx", 4);
    return 4;
}
void *nested_lines(int levels) {
    char *line = 0;
    size_t room = 0;
    depth = levels;
    FILE *file = stream_of(nested);
    getdelim(&line, &room, 'x', file);
    fclose(file);
    return line;
}
void *kept_below(void) { return kept; }
}

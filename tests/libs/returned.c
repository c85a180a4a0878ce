// returned.c - functions of the C library whose result the caller must free.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

char *by_strdup(void) { return strdup("nineteen characters"); }
char *by_strndup(void) { return strndup("nineteen characters", 8); }
char *by_asprintf(void) {
    char *text = 0;
    return asprintf(&text, "%s %d", "a text of", 42) < 0 ? 0 : text;
}
char *by_getline(void) {
    char *line = 0;
    size_t room = 0;
    FILE *file = fopen("/proc/self/status", "r");
    if (getline(&line, &room, file) < 0)
        abort();
    fclose(file);
    return line;
}
char *by_realpath(void) { return realpath("/proc/self/..", 0); }
char *by_getcwd(void) { return getcwd(0, 0); }
wchar_t *by_wcsdup(void) { return wcsdup(L"wide"); }
char *by_open_memstream(void) {
    char *text;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    fputs("written to memory", file);
    fclose(file);
    return text;
}
void release(void *block) { free(block); }
void use_streams_only(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[200];
    if (!fgets(line, sizeof line, file))
        abort();
    fclose(file);
}

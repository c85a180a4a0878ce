// results.c - what the C library allocates for its caller, and its objects.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <argz.h>
#include <dirent.h>
#include <envz.h>
#include <glob.h>
#include <iconv.h>
#include <ifaddrs.h>
#include <locale.h>
#include <mntent.h>
#include <net/if.h>
#include <netdb.h>
#include <regex.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>
#include <wordexp.h>

// --- blocks that free releases -------------------------------------------
void *text_of_stream(size_t bytes) {
    char *text;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    for (size_t i = 0; i < bytes; i++)
        putc('x', file);
    fclose(file);
    return text;
}
void *wide_text_of_stream(size_t letters) {
    wchar_t *text;
    size_t size;
    FILE *file = open_wmemstream(&text, &size);
    for (size_t i = 0; i < letters; i++)
        putwc(L'x', file);
    fclose(file);
    return text;
}
void *scan_word(void) {
    char *word = 0;
    int number;
    return sscanf("7 horses", "%d %ms", &number, &word) == 2 ? word : 0;
}
void *scan_set(void) {
    char *word = 0, *other = 0;
    sscanf("ab]c=no", "%1$m[]a-c]=%2$ms", &word, &other);
    free(other);
    return word;
}
void *scan_letters(void) {
    char *letters = 0;
    return sscanf("abcdef", "%5mc", &letters) == 1 ? letters : 0;
}
void *scan_wide(void) {
    wchar_t *word = 0;
    return sscanf("wide", "%mls", &word) == 1 ? word : 0;
}
void *scan_wide_format(void) {
    char *word = 0;
    wchar_t *wide = 0;
    if (swscanf(L"first second", L"%ms %mls", &word, &wide) != 2)
        abort();
    free(wide);
    return word;
}
static int read_list(const char *text, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int count = vsscanf(text, format, list);
    va_end(list);
    return count;
}
void *scan_list(void) {
    char *word = 0;
    return read_list("seven words", "%*s %ms", &word) == 1 ? word : 0;
}
void *scan_stream(void) {
    char *word = 0;
    FILE *file = fopen("/proc/self/comm", "r");
    if (fscanf(file, "%ms", &word) != 1)
        abort();
    fclose(file);
    return word;
}
int scan_too_few(void) {
    char *first = 0, *second = 0;
    int count = sscanf("one", "%ms %ms", &first, &second);
    free(first);
    return second ? -1 : count;
}
int scan_numbers(void) {
    int a, b;
    char text[20];
    return sscanf("1 2 m", "%d %d %19s", &a, &b, text);
}
void *vector(void) {
    char *texts[] = {"one", "two", 0}, *vector = 0;
    size_t length = 0;
    argz_create(texts, &vector, &length);
    return vector;
}
void *vector_grown(void) {
    char *vector = 0;
    size_t length = 0;
    argz_add(&vector, &length, "one");
    argz_add_sep(&vector, &length, "two:three", ':');
    argz_append(&vector, &length, "four", 5);
    argz_insert(&vector, &length, vector, "zero");
    unsigned count = 0;
    argz_replace(&vector, &length, "zero", "nothing", &count);
    argz_delete(&vector, &length, vector);
    return vector;
}
void *vector_split(void) {
    char *vector = 0;
    size_t length = 0;
    argz_create_sep("a:b:c", ':', &vector, &length);
    return vector;
}
void *environment(void) {
    char *vector = 0;
    size_t length = 0;
    envz_add(&vector, &length, "name", "value");
    return vector;
}
static int is_root(const struct dirent *d) {
    char *copy = strdup(d->d_name);
    FILE *file = fopen("/proc/self/comm", "r");
    char word[20];
    if (!fgets(word, sizeof word, file))
        abort();
    fclose(file);
    int found = strcmp(copy, "self") == 0;
    free(copy);
    return found;
}
void *list_folder(void) {
    struct dirent **list = 0;
    return scandir("/proc", &list, is_root, alphasort) == 1 ? list : 0;
}
void release(void *block) { free(block); }
void release_list(void *block) {
    free(((void **)block)[0]);
    free(block);
}

// --- objects ---------------------------------------------------------------
void *open_file(void) { return fopen("/proc/self/comm", "r"); }
void *open_descriptor(void) { return fdopen(dup(0), "r"); }
void *open_temporary(void) { return tmpfile(); }
void *open_memory(void) { return fmemopen(0, 100, "w+"); }
void *open_text(void) {
    static char *text;
    static size_t size;
    return open_memstream(&text, &size);
}
void close_file(void *file) { fclose(file); }
void *open_pipe(void) { return popen("true", "r"); }
void close_pipe(void *file) { pclose(file); }
void *open_mounts(void) { return setmntent("/proc/mounts", "r"); }
void close_mounts(void *file) { endmntent(file); }
void *open_folder(void) { return opendir("/proc"); }
void close_folder(void *folder) { closedir(folder); }
void *open_converter(void) { return iconv_open("UTF-16", "ISO-8859-1"); }
void close_converter(void *converter) { iconv_close(converter); }
void *open_locale(void) {
    locale_t first = newlocale(LC_CTYPE_MASK, "C.UTF-8", 0);
    return newlocale(LC_TIME_MASK, "C.UTF-8", first);
}
void *copy_locale(void) {
    locale_t one = newlocale(LC_ALL_MASK, "C.UTF-8", 0), two = duplocale(one);
    freelocale(one);
    return two;
}
void close_locale(void *locale) { freelocale(locale); }
void *find_addresses(void) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *list = 0;
    return getaddrinfo("127.0.0.1", "80", &hints, &list) ? 0 : list;
}
void free_addresses(void *list) { freeaddrinfo(list); }
void *find_interfaces(void) {
    struct ifaddrs *list = 0;
    return getifaddrs(&list) ? 0 : list;
}
void free_interfaces(void *list) { freeifaddrs(list); }
void *name_interfaces(void) { return if_nameindex(); }
void free_names(void *list) { if_freenameindex(list); }
static glob_t paths;
void *find_paths(void) {
    if (glob("/proc/self/comm", 0, 0, &paths) ||
        glob("/proc/self/st*", GLOB_APPEND, 0, &paths))
        abort();
    return paths.gl_pathv;
}
void free_paths(void *found) { globfree(&paths); }
static wordexp_t words;
void *expand_words(void) {
    if (wordexp("one two", &words, 0) ||
        wordexp("three", &words, WRDE_APPEND))
        abort();
    return words.we_wordv;
}
void free_words(void *found) { wordfree(&words); }
static regex_t expression;
void *compile_expression(void) {
    return regcomp(&expression, "a+(b|c)*", REG_EXTENDED) ? 0
                                                          : *(void **)&expression;
}
void free_expression(void *compiled) { regfree(&expression); }

// --- what fails or needs no release ------------------------------------------
int fail_all(void) {
    char *text = 0;
    struct addrinfo *list, hints = {.ai_flags = AI_NUMERICHOST};
    glob_t none;
    wordexp_t no_words;
    regex_t wrong;
    int failed = !fopen("/nowhere/file", "r") + !opendir("/nowhere");
    failed += iconv_open("no such", "encoding") == (iconv_t)-1;
    failed += !newlocale(LC_ALL_MASK, "no such", 0);
    failed += getaddrinfo("no address", 0, &hints, &list) != 0;
    failed += glob("/nowhere/*", 0, 0, &none) != 0;
    failed += wordexp("a | b", &no_words, 0) != 0;
    failed += regcomp(&wrong, "a(", REG_EXTENDED) != 0;
    int number;
    failed += sscanf("x", "%d %ms", &number, &text) == 0;
    freelocale(newlocale(LC_ALL_MASK, "C", 0));
    return failed;
}

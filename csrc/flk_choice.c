// flk_choice.c - patterns, one after the other. Contract: flk_choice.h.      SPDX-License-Identifier: MIT
#include "flk_choice.h"

#include <stdatomic.h>
#include <string.h>

#include "flk_config.h"

typedef struct patterns {
    char text[FLK_PATTERNS_BYTES_MAX];  // include, then exclude, 0-ended
    size_t include_count, exclude_count;
} patterns;

// One is read, the other is written next. A reader that is overtaken twice
// may misjudge one call, but never leaves the text, which ends with a zero.
static struct {
    patterns both[2];
    atomic_uint now;  // release after writing, acquire before reading
} choice;

static bool fits(const char *const *texts, size_t count, size_t *bytes) {
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(texts[i]) + 1;
        if (length > FLK_PATTERNS_BYTES_MAX - 1 - *bytes)
            return false;
        *bytes += length;
    }
    return true;
}

static char *copy(char *to, const char *const *texts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(texts[i]) + 1;
        memcpy(to, texts[i], length);
        to += length;
    }
    return to;
}

bool flk_choice_set(const char *const *include, size_t include_count,
                    const char *const *exclude, size_t exclude_count) {
    size_t bytes = 0;
    if (!fits(include, include_count, &bytes) ||
        !fits(exclude, exclude_count, &bytes))
        return false;
    unsigned next = !atomic_load(&choice.now);
    patterns *p = &choice.both[next];
    copy(copy(p->text, include, include_count), exclude, exclude_count);
    p->include_count = include_count;
    p->exclude_count = exclude_count;
    atomic_store_explicit(&choice.now, next, memory_order_release);
    return true;
}

// Backs up to the last star when a later part does not match.
static bool matches(const char *pattern, const char *text) {
    const char *star = NULL, *retry = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            retry = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool matches_any(const char **pattern, const char *end, size_t count,
                        const char *path) {
    const char *slash = strrchr(path, '/');
    const char *last_part = slash ? slash + 1 : path;
    bool found = false;
    for (size_t i = 0; i < count && *pattern < end; i++) {
        found |= matches(*pattern, path) || matches(*pattern, last_part);
        *pattern += strlen(*pattern) + 1;
    }
    return found;
}

// Returns whether anything is included by name.
static bool ask(const char *path, bool *is_included, bool *is_excluded) {
    const patterns *p = &choice.both[atomic_load_explicit(
        &choice.now, memory_order_acquire)];
    const char *pattern = p->text, *end = p->text + sizeof p->text;
    *is_included = matches_any(&pattern, end, p->include_count, path);
    *is_excluded = matches_any(&pattern, end, p->exclude_count, path);
    return p->include_count > 0;
}

bool flk_choice_names(const char *path) {
    bool is_included, is_excluded;
    ask(path, &is_included, &is_excluded);
    return is_included && !is_excluded;
}

bool flk_choice_has(const char *path) {
    bool is_included, is_excluded;
    bool by_name = ask(path, &is_included, &is_excluded);
    return (is_included || !by_name) && !is_excluded;
}

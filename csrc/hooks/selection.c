// selection.c - patterns, one after the other. Contract: hooks/selection.h.      SPDX-License-Identifier: MIT
#include "hooks/selection.h"

#include <stdatomic.h>
#include <string.h>

#include "base/config.h"

typedef struct rules {
    char text[FLK_PATTERNS_BYTES_MAX];  // one after the other, 0-ended
    size_t count;
    // By the offset of a rule: an object that it matches was met. Each rule has
    // two bytes or more. FLK_RANK_ATTACH.
    bool met[FLK_PATTERNS_BYTES_MAX / 2];
} rules;

// One is read, the other is written next. A reader that is overtaken twice
// may misjudge one call, but never leaves the text, which ends with a zero.
static struct {
    rules both[2];
    atomic_uint now;  // release after writing, acquire before reading
} choice;

static bool fits(const char *const *texts, size_t count) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(texts[i]) + 1;
        if (length > FLK_PATTERNS_BYTES_MAX - 1 - bytes)
            return false;
        bytes += length;
    }
    return true;
}

bool flk_selection_set(const char *const *texts, size_t count) {
    if (!fits(texts, count))
        return false;
    unsigned next = !atomic_load(&choice.now);
    rules *r = &choice.both[next];
    char *to = r->text;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(texts[i]) + 1;
        memcpy(to, texts[i], length);
        to += length;
    }
    r->count = count;
    memset(r->met, 0, sizeof r->met);
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

// What one wish says of an object.
typedef struct wish {
    bool has_names, is_named, is_excluded;
} wish;

static bool fits_path(const char *rule, const char *path) {
    const char *slash = strrchr(path, '/');
    return matches(rule + 1, path) ||
           matches(rule + 1, slash ? slash + 1 : path);
}

static void apply(wish *w, const char *rule, const char *path) {
    bool fits_rule = fits_path(rule, path);
    if (*rule == '-')
        w->is_excluded |= fits_rule;
    if (*rule == '+') {
        w->has_names = true;
        w->is_named |= fits_rule;
    }
}

static bool grants(const wish *w, bool must_name) {
    return !w->is_excluded && (w->is_named || (!w->has_names && !must_name));
}

static bool ask(const char *path, bool must_name) {
    const rules *r =
        &choice.both[atomic_load_explicit(&choice.now, memory_order_acquire)];
    const char *rule = r->text, *end = r->text + sizeof r->text;
    wish now = {.has_names = false};
    bool granted = false;
    for (size_t i = 0; i < r->count && rule < end; i++) {
        if (*rule == '|' && i > 0) {
            granted |= grants(&now, must_name);
            now = (wish){.has_names = false};
        }
        apply(&now, rule, path);
        rule += strlen(rule) + 1;
    }
    return granted || grants(&now, must_name);
}

bool flk_selection_names(const char *path) { return ask(path, true); }

bool flk_selection_has(const char *path) { return ask(path, false); }

// --- which patterns match something ------------------------------------
static rules *rules_now(void) {
    return &choice
                .both[atomic_load_explicit(&choice.now, memory_order_acquire)];
}

void flk_selection_meet(const char *path) {
    rules *r = rules_now();
    const char *rule = r->text;
    for (size_t i = 0; i < r->count; i++) {
        bool *met = &r->met[(rule - r->text) / 2];
        if (*rule == '+' && !*met)
            *met = fits_path(rule, path);
        rule += strlen(rule) + 1;
    }
}

bool flk_selection_has_met(const char *pattern) {
    const rules *r = rules_now();
    const char *rule = r->text;
    for (size_t i = 0; i < r->count; i++) {
        if (*rule == '+' && strcmp(rule + 1, pattern) == 0 &&
            r->met[(rule - r->text) / 2])
            return true;
        rule += strlen(rule) + 1;
    }
    return false;
}

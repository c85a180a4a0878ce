// selection.c - rules as texts, one after the other. Contract: hooks/selection.h.      SPDX-License-Identifier: MIT
#include "hooks/selection.h"

#include <stdatomic.h>
#include <string.h>

#include "base/config.h"
#include "base/platform.h"

typedef struct rules {
    char text[FLK_PATTERNS_BYTES_MAX];  // each ends with a zero byte
    size_t count;
    // By the offset of a rule: an object that it matches was met. Each rule has
    // two bytes or more. FLK_RANK_ATTACH.
    bool met[FLK_PATTERNS_BYTES_MAX / 2];
} rules;

// One copy is read while the other one is written. A reader that lives through
// two changes may misjudge one call, but never leaves the text, because its
// last byte stays zero. Written under FLK_RANK_ATTACH: the child of a fork
// finds a whole copy.
static struct {
    rules both[2];
    atomic_uint now;  // release after writing, acquire before reading
} selection;

static bool fits(const char *const *texts, size_t count) {
    FLK_ASSERT(texts != NULL || count == 0);
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
    unsigned next = !atomic_load(&selection.now);
    rules *r = &selection.both[next];
    char *to = r->text;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(texts[i]) + 1;
        memcpy(to, texts[i], length);
        to += length;
    }
    FLK_ASSERT(to <= r->text + sizeof r->text - 1);
    r->count = count;
    memset(r->met, 0, sizeof r->met);
    atomic_store_explicit(&selection.now, next, memory_order_release);
    return true;
}

// When a part does not match, the last star takes one character more.
static bool matches(const char *pattern, const char *text) {
    FLK_ASSERT(pattern != NULL && text != NULL);
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

// What one request says of an object.
typedef struct request {
    bool has_names, is_named, is_excluded, is_excluded_by_default;
} request;

static bool fits_path(const char *rule, const char *path) {
    const char *slash = strrchr(path, '/');
    return matches(rule + 1, path) ||
           matches(rule + 1, slash ? slash + 1 : path);
}

static void apply(request *r, const char *rule, const char *path) {
    FLK_ASSERT(*rule == '+' || *rule == '-' || *rule == '~' || *rule == '|');
    bool fits_rule = fits_path(rule, path);
    if (*rule == '-')
        r->is_excluded |= fits_rule;
    if (*rule == '~')
        r->is_excluded_by_default |= fits_rule;
    if (*rule == '+') {
        r->has_names = true;
        r->is_named |= fits_rule;
    }
}

// What all requests say, together.
typedef struct verdict {
    bool is_named, is_included, may_be_included, is_barred;
} verdict;

static void add(verdict *v, const request *r) {
    bool may_be = !r->is_excluded && (r->is_named || !r->has_names);
    v->may_be_included |= may_be;
    v->is_included |= may_be && !r->is_excluded_by_default;
    v->is_named |= r->is_named && !r->is_excluded && !r->is_excluded_by_default;
    v->is_barred &= r->is_excluded;
}

static verdict judge(const char *path) {
    FLK_ASSERT(path != NULL);
    const rules *r =
        &selection
             .both[atomic_load_explicit(&selection.now, memory_order_acquire)];
    const char *rule = r->text, *end = r->text + sizeof r->text;
    request now = {.has_names = false};
    verdict v = {.is_barred = true};
    for (size_t i = 0; i < r->count && rule < end; i++) {
        if (*rule == '|' && i > 0) {
            add(&v, &now);
            now = (request){.has_names = false};
        }
        apply(&now, rule, path);
        rule += strlen(rule) + 1;
    }
    add(&v, &now);
    return v;
}

bool flk_selection_names(const char *path) { return judge(path).is_named; }

bool flk_selection_has(const char *path) { return judge(path).is_included; }

bool flk_selection_may_have(const char *path) {
    return judge(path).may_be_included;
}

bool flk_selection_bars(const char *path) { return judge(path).is_barred; }

// --- which patterns match something ------------------------------------
static rules *rules_now(void) {
    return &selection.both[atomic_load_explicit(&selection.now,
                                                memory_order_acquire)];
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

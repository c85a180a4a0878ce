// selection.c - rules as texts, one after the other. Contract: hooks/selection.h.      SPDX-License-Identifier: MIT
#include "hooks/selection.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/config.h"
#include "base/platform.h"
#include "hooks/library_names.h"

typedef struct rules {
    char text[FLK_PATTERNS_BYTES_MAX];  // each ends with a zero byte
    size_t count;
    // By the offset of a rule: an object that it matches was met. Each rule has
    // two bytes or more, with its zero byte. FLK_RANK_ATTACH.
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
        FLK_ASSERT(length > 1 && strchr("+=#-!%~|", texts[i][0]));
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

static bool fits_glob(const char *glob, const char *path) {
    FLK_ASSERT(path != NULL);
    const char *slash = strrchr(path, '/');
    return matches(glob, path) || matches(glob, slash ? slash + 1 : path);
}

static void read_file(flk_selection_object *object) {
    struct stat found;
    int saved = errno;
    FLK_ASSERT(object->file == FLK_FILE_UNREAD);
    bool is_read =
        object->absolute[0] == '/' && stat(object->absolute, &found) == 0;
    errno = saved;
    object->file = is_read ? FLK_FILE_READ : FLK_FILE_NONE;
    if (is_read) {
        object->device = found.st_dev;
        object->inode = found.st_ino;
    }
}

static bool fits_file(const char *file, flk_selection_object *object) {
    char *inode;
    int saved = errno;
    uint64_t device = strtoull(file, &inode, 16);
    if (object->file == FLK_FILE_UNREAD)
        read_file(object);
    bool fits = object->file == FLK_FILE_READ && *inode == ':' &&
                object->device == device &&
                object->inode == strtoull(inode + 1, NULL, 16);
    errno = saved;
    return fits;
}

static bool includes(char mark) {
    return mark == '+' || mark == '=' || mark == '#';
}

bool flk_selection_fits(const char *rule, flk_selection_object *object) {
    FLK_ASSERT(rule != NULL && object->path && object->absolute);
    switch (*rule) {
    case '+':
    case '-':
    case '~':
        return fits_glob(rule + 1, object->path) ||
               (object->absolute != object->path &&
                fits_glob(rule + 1, object->absolute));
    case '=':
    case '!':
        return flk_library_names_match(rule + 1, object->path);
    case '#':
    case '%':
        return fits_file(rule + 1, object);
    default:  // "|", or a rule that is being replaced
        return false;
    }
}

// What one request says of an object.
typedef struct request {
    bool has_names, is_named, is_excluded, is_excluded_by_default;
} request;

static void apply(request *r, const char *rule, flk_selection_object *object) {
    bool fits_rule = flk_selection_fits(rule, object);
    if (includes(*rule)) {
        r->has_names = true;
        r->is_named |= fits_rule;
    } else if (*rule == '~') {
        r->is_excluded_by_default |= fits_rule;
    } else {
        r->is_excluded |= fits_rule;
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

static rules *rules_now(void) {
    return &selection.both[atomic_load_explicit(&selection.now,
                                                memory_order_acquire)];
}

static verdict judge(flk_selection_object *object) {
    FLK_ASSERT(object != NULL);
    const rules *r = rules_now();
    const char *rule = r->text, *end = r->text + sizeof r->text;
    request now = {.has_names = false};
    verdict v = {.is_barred = true};
    for (size_t i = 0; i < r->count && rule < end; i++) {
        if (*rule == '|' && i > 0) {
            add(&v, &now);
            now = (request){.has_names = false};
        }
        apply(&now, rule, object);
        rule += strlen(rule) + 1;
    }
    add(&v, &now);
    return v;
}

bool flk_selection_names(flk_selection_object *object) {
    return judge(object).is_named;
}

bool flk_selection_has(flk_selection_object *object) {
    return judge(object).is_included;
}

bool flk_selection_may_have(flk_selection_object *object) {
    return judge(object).may_be_included;
}

bool flk_selection_bars(flk_selection_object *object) {
    return judge(object).is_barred;
}

// --- which rules match something ----------------------------------------
void flk_selection_meet(flk_selection_object *object) {
    rules *r = rules_now();
    const char *rule = r->text;
    for (size_t i = 0; i < r->count; i++) {
        bool *met = &r->met[(rule - r->text) / 2];
        if (includes(*rule) && !*met)
            *met = flk_selection_fits(rule, object);
        rule += strlen(rule) + 1;
    }
}

bool flk_selection_has_met(const char *wanted) {
    const rules *r = rules_now();
    const char *rule = r->text;
    FLK_ASSERT(wanted != NULL);
    for (size_t i = 0; i < r->count; i++) {
        if (includes(*rule) && strcmp(rule, wanted) == 0 &&
            r->met[(rule - r->text) / 2])
            return true;
        rule += strlen(rule) + 1;
    }
    return false;
}

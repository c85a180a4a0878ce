// library_names.c - compares parts of two texts. Contract: hooks/library_names.h.    SPDX-License-Identifier: MIT
#include "hooks/library_names.h"

#include <stddef.h>
#include <string.h>

#include "base/platform.h"

// A name in its parts: "lib" STEM tags ".so" "." VERSION.
typedef struct parts {
    const char *stem;
    size_t stem_length;
    bool has_suffix;      // ".so"
    const char *version;  // "" = none
} parts;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

// The ".so" that ends the stem; NULL if there is none.
static const char *suffix_of(const char *text) {
    FLK_ASSERT(text != NULL);
    const char *at = strstr(text, ".so");
    while (at && at[3] != '\0' && !(at[3] == '.' && is_digit(at[4])))
        at = strstr(at + 1, ".so");
    return at;
}

// Tags of the interpreter in the file names of extension modules (PEP 3149).
static void cut_tags(parts *p) {
    static const char *const tags[] = {".cpython-", ".abi3", ".pypy"};
    FLK_ASSERT(p->stem != NULL);
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        const char *tag = strstr(p->stem, tags[i]);
        if (tag && (size_t)(tag - p->stem) < p->stem_length)
            p->stem_length = (size_t)(tag - p->stem);
    }
}

static parts parts_of(const char *text) {
    const char *suffix = suffix_of(text);
    parts p = {text, suffix ? (size_t)(suffix - text) : strlen(text),
               suffix != NULL, suffix && suffix[3] ? suffix + 4 : ""};
    cut_tags(&p);
    if (p.stem_length > 3 && strncmp(p.stem, "lib", 3) == 0) {
        p.stem += 3;
        p.stem_length -= 3;
    }
    return p;
}

// "1" agrees with "1.2" and with "", not with "12".
static bool versions_agree(const char *one, const char *other) {
    FLK_ASSERT(one != NULL && other != NULL);
    size_t lengths[2] = {strlen(one), strlen(other)};
    bool is_longer = lengths[0] > lengths[1];
    size_t common = lengths[is_longer];
    char next = (is_longer ? one : other)[common];
    return common == 0 ||
           (strncmp(one, other, common) == 0 && (next == '\0' || next == '.'));
}

// Whether text[at..length) is a tag of eight hexadecimal digits, or a version.
static bool is_addition(const char *text, size_t at, size_t length) {
    FLK_ASSERT(at <= length);
    bool is_hash = length - at == 8, is_version = at < length;
    for (size_t i = at; i < length; i++) {
        is_hash &= is_hex(text[i]);
        is_version &= is_digit(text[i]) || text[i] == '.';
    }
    return is_hash || is_version;
}

// The length without the last "-addition"; 0: there is none.
static size_t shorten(const char *text, size_t length) {
    size_t dash = length;
    FLK_ASSERT(text != NULL);
    while (dash > 0 && text[dash - 1] != '-')
        dash--;
    return dash > 1 && is_addition(text, dash, length) ? dash - 1 : 0;
}

static bool stems_agree(const parts *name, const parts *file) {
    FLK_ASSERT(name->stem && file->stem);
    size_t length = file->stem_length;
    while (length > name->stem_length)
        length = shorten(file->stem, length);
    return length > 0 && length == name->stem_length &&
           memcmp(name->stem, file->stem, length) == 0;
}

bool flk_library_names_match(const char *name, const char *file) {
    FLK_ASSERT(name != NULL && file != NULL);
    const char *slash = strrchr(file, '/');
    parts wanted = parts_of(name), found = parts_of(slash ? slash + 1 : file);
    return stems_agree(&wanted, &found) &&
           (!wanted.has_suffix ||
            versions_agree(wanted.version, found.version));
}

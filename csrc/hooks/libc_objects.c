// libc_objects.c - structures and formats. Contract: hooks/libc_objects.h.   SPDX-License-Identifier: MIT
#include "hooks/libc_objects.h"

#include "base/platform.h"

#ifdef FLK_HAS_ELF
#include <dirent.h>
#include <glob.h>
#include <net/if.h>
#include <netdb.h>
#include <stdbool.h>
#include <string.h>
#include <wchar.h>
#include <wordexp.h>

// --- structures --------------------------------------------------------
// A compiled expression begins with its block and, in the GNU C library, with
// the size of that block. Their names depend on macros of the includer.
typedef struct compiled {
    uintptr_t buffer;
    unsigned long allocated;
} compiled;

uintptr_t flk_libc_objects_block(flk_sizes kind, uintptr_t structure) {
    FLK_ASSERT(structure != 0);
    switch (kind) {
    case FLK_SIZES_GLOB:
        return (uintptr_t)((const glob_t *)structure)->gl_pathv;
    case FLK_SIZES_WORDS:
        return (uintptr_t)((const wordexp_t *)structure)->we_wordv;
    case FLK_SIZES_ADDRESSES:
        return *(const uintptr_t *)structure;
#ifdef __GLIBC__
    case FLK_SIZES_REGEX:
        return ((const compiled *)structure)->buffer;
#else
    case FLK_SIZES_REGEX:
        return 0;
#endif
    default:
        return structure;
    }
}

static uint64_t bytes_of_addresses(const struct addrinfo *first) {
    FLK_ASSERT(first != NULL);
    return sizeof *first + first->ai_addrlen;
}

static uint64_t bytes_of_interfaces(const struct if_nameindex *list) {
    FLK_ASSERT(list != NULL);
    size_t count = 1;  // with the entry that ends the array
    for (const struct if_nameindex *one = list; one->if_index || one->if_name;
         one++)
        count++;
    return count * sizeof *list;
}

// Places before the paths that the caller asked to leave free. musl does not
// keep whether it did.
static size_t free_paths(const glob_t *paths) {
#if defined(__GLIBC__)
    return paths->gl_flags & GLOB_DOOFFS ? paths->gl_offs : 0;
#else
    (void)paths;
    return 0;
#endif
}

uint64_t flk_libc_objects_bytes(flk_sizes kind, uintptr_t structure) {
    FLK_ASSERT(structure != 0);
    const glob_t *paths = (const glob_t *)structure;
    const wordexp_t *words = (const wordexp_t *)structure;
    switch (kind) {
    case FLK_SIZES_GLOB:
        return (paths->gl_pathc + 1 + free_paths(paths)) *
               sizeof *paths->gl_pathv;
    case FLK_SIZES_WORDS:
        return (words->we_wordc + 1 + words->we_offs) * sizeof *words->we_wordv;
    case FLK_SIZES_ADDRESSES:
        return bytes_of_addresses(*(const struct addrinfo *const *)structure);
    case FLK_SIZES_INTERFACES:
        return bytes_of_interfaces((const struct if_nameindex *)structure);
    case FLK_SIZES_REGEX:
        return ((const compiled *)structure)->allocated;
    default:
        return 0;
    }
}

// --- scandir -----------------------------------------------------------
uint64_t flk_libc_objects_list_bytes(uint64_t count) {
#ifdef __GLIBC__
    uint64_t room = 10;  // doubled while it is too small
    while (room < count)
        room *= 2;
    return room * sizeof(struct dirent *);
#else
    return count * sizeof(struct dirent *);
#endif
}

uint64_t flk_libc_objects_entry_bytes(uintptr_t entry) {
    FLK_ASSERT(entry != 0);
    return ((const struct dirent *)entry)->d_reclen;
}

// --- scanf ---------------------------------------------------------------
typedef struct conversion {
    unsigned position;  // of its argument, counted from 1; 0 = the next one
    unsigned width;     // 0 = none
    bool is_suppressed, is_made, is_wide;
    char letter;
} conversion;

static const char *read_number(const char *f, unsigned *number) {
    for (*number = 0; *f >= '0' && *f <= '9'; f++)
        *number = *number * 10 + (unsigned)(*f - '0');
    return f;
}

static const char *read_flags(const char *f, conversion *c) {
    FLK_ASSERT(f != NULL);
    for (; *f == '*' || *f == '\'' || *f == 'I'; f++)
        c->is_suppressed |= *f == '*';
    return f;
}

// `]` right after `[` or `[^` belongs to the set.
static const char *skip_set(const char *f) {
    f += *f == '^';
    f += *f == ']';
    while (*f && *f != ']')
        f++;
    return *f ? f + 1 : f;
}

// Reads what stands behind `%`. Returns where the format goes on.
static const char *read_conversion(const char *f, conversion *c) {
    *c = (conversion){.position = 0};
    const char *start = f;
    f = read_number(f, &c->position);
    if (*f == '$' && c->position > 0)
        f = read_number(read_flags(f + 1, c), &c->width);
    else
        c->position = 0, f = read_number(read_flags(start, c), &c->width);
    for (; *f && strchr("hlLqjztm", *f); f++) {
        c->is_made |= *f == 'm';
        c->is_wide |= *f == 'l';
    }
    c->letter = *f;
    c->is_wide |= *f == 'S' || *f == 'C';
    if (*f)
        f++;
    return c->letter == '[' ? skip_set(f) : f;
}

// The blocks were cut to their contents. How many letters were there for %mc is
// not seen in them.
static uint64_t made_bytes(const conversion *c, uintptr_t block) {
    FLK_ASSERT(block != 0);
    uint64_t unit = c->is_wide ? sizeof(wchar_t) : 1;
    if (c->letter == 'c' || c->letter == 'C')
        return unit;
    return c->is_wide ? (wcslen((const wchar_t *)block) + 1) * unit
                      : strlen((const char *)block) + 1;
}

static uintptr_t *argument_at(va_list *list, unsigned position) {
    FLK_ASSERT(position > 0);
    va_list from_start;
    va_copy(from_start, *list);
    uintptr_t *found = NULL;
    for (unsigned i = 0; i < position; i++)
        found = va_arg(from_start, uintptr_t *);
    va_end(from_start);
    return found;
}

static bool takes_argument(const conversion *c) {
    return c->letter && c->letter != '%' && !c->is_suppressed;
}

void flk_libc_objects_scanned(const char *format, va_list *list, int assigned,
                              flk_libc_objects_made made, void *context) {
    FLK_ASSERT(format != NULL && list != NULL && made != NULL);
    unsigned next = 0;
    conversion c;
    for (int done = 0; *format && done < assigned;) {
        if (*format++ != '%')
            continue;
        format = read_conversion(format, &c);
        if (!takes_argument(&c))
            continue;
        done += c.letter != 'n';
        unsigned position = c.position ? c.position : ++next;
        if (!c.is_made)
            continue;
        uintptr_t block = *argument_at(list, position);
        if (block)
            made(block, made_bytes(&c, block), context);
    }
}
#endif

// maps.c - parses /proc/self/maps byte by byte. Contract: elf/maps.h.      SPDX-License-Identifier: MIT
#include "elf/maps.h"

#ifdef FLK_HAS_ELF
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

// A line is "begin-end rwxp ...". The part that the next byte belongs to:
typedef enum part { BEGIN, END, MAY, REST } part;

typedef struct reader {
    part part;
    flk_maps_range range;
} reader;

static int digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Returns true when a range is complete.
static bool read_byte(reader *r, char c) {
    FLK_ASSERT(r->part <= REST);
    if (c == '\n') {
        *r = (reader){.part = BEGIN};
        return false;
    }
    uintptr_t *number = r->part == BEGIN ? &r->range.begin : &r->range.end;
    switch (r->part) {
    case BEGIN:
    case END:
        if (digit(c) >= 0)
            *number = *number * 16 + (uintptr_t)digit(c);
        else
            r->part++;
        return false;
    case MAY:
        r->range.may |= c == 'r'   ? FLK_PAGE_READ
                        : c == 'w' ? FLK_PAGE_WRITE
                        : c == 'x' ? FLK_PAGE_EXECUTE
                                   : 0u;
        if (c != 'p' && c != 's')
            return false;
        r->part = REST;
        return true;
    case REST:
        break;
    }
    return false;
}

// Copies the path of a line: what follows its first slash. Without room the
// path is cut.
typedef struct copy {
    char *out;
    size_t bytes, length;
} copy;

static void copy_byte(copy *c, char byte) {
    FLK_ASSERT(c->length < c->bytes);
    if ((c->length == 0 && byte != '/') || c->length + 1 == c->bytes)
        return;
    c->out[c->length++] = byte;
    c->out[c->length] = '\0';
}

// Reads up to the end of the line of the address; `path` may be NULL.
static bool find_in(int fd, uintptr_t address, flk_maps_range *out,
                    copy *path) {
    FLK_ASSERT(fd >= 0);
    char text[768];
    reader r = {.part = BEGIN};
    bool is_found = false;
    ssize_t count;
    while ((count = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < count; i++) {
            if (is_found && text[i] == '\n')
                return true;
            if (is_found) {
                copy_byte(path, text[i]);
                continue;
            }
            if (!read_byte(&r, text[i]) || r.range.begin > address ||
                address >= r.range.end)
                continue;
            FLK_ASSERT(r.range.begin < r.range.end);
            *out = r.range;
            is_found = true;
            if (!path)
                return true;
        }
    return is_found;
}

static bool read_maps(uintptr_t address, flk_maps_range *out, copy *path) {
    FLK_ASSERT(out != NULL);
    int saved = errno;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    bool found = fd >= 0 && find_in(fd, address, out, path);
    if (fd >= 0)
        close(fd);
    errno = saved;
    return found;
}

bool flk_maps_find(uintptr_t address, flk_maps_range *out) {
    return read_maps(address, out, NULL);
}

bool flk_maps_path(uintptr_t address, char *out, size_t out_bytes) {
    FLK_ASSERT(out != NULL && out_bytes > 0);
    flk_maps_range range;
    copy path = {out, out_bytes, 0};
    out[0] = '\0';
    return read_maps(address, &range, &path) && path.length > 0 &&
           path.length + 1 < out_bytes;
}

static void visit_in(int fd, flk_maps_visitor visit, void *context) {
    FLK_ASSERT(fd >= 0);
    char text[4096];
    reader r = {.part = BEGIN};
    ssize_t count;
    while ((count = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < count; i++)
            if (read_byte(&r, text[i]))
                visit(&r.range, context);
}

bool flk_maps_each(flk_maps_visitor visit, void *context) {
    FLK_ASSERT(visit != NULL);
    int saved = errno;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        visit_in(fd, visit, context);
        close(fd);
    }
    errno = saved;
    return fd >= 0;
}
#endif

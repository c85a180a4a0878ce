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

static bool find_in(int fd, uintptr_t address, flk_maps_range *out) {
    FLK_ASSERT(fd >= 0);
    char text[768];
    reader r = {.part = BEGIN};
    ssize_t count;
    while ((count = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < count; i++)
            if (read_byte(&r, text[i]) && r.range.begin <= address &&
                address < r.range.end) {
                FLK_ASSERT(r.range.begin < r.range.end);
                *out = r.range;
                return true;
            }
    return false;
}

bool flk_maps_find(uintptr_t address, flk_maps_range *out) {
    FLK_ASSERT(out != NULL);
    int saved = errno;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    bool found = fd >= 0 && find_in(fd, address, out);
    if (fd >= 0)
        close(fd);
    errno = saved;
    return found;
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

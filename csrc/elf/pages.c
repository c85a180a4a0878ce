// pages.c - reads /proc/self/pagemap. Contract: elf/pages.h.               SPDX-License-Identifier: MIT
#include "elf/pages.h"

#ifdef FLK_HAS_ELF
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define IS_PRESENT (UINT64_C(1) << 63)
#define IS_SWAPPED (UINT64_C(1) << 62)
#define IS_OF_FILE (UINT64_C(1) << 61)

void flk_pages_open(flk_pages *pages) {
    FLK_ASSERT(pages != NULL);
    int saved = errno;
    pages->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    pages->first = pages->count = 0;
    errno = saved;
}

void flk_pages_close(flk_pages *pages) {
    FLK_ASSERT(pages != NULL);
    int saved = errno;
    if (pages->fd >= 0)
        close(pages->fd);
    pages->fd = -1;
    errno = saved;
}

static void read_from(flk_pages *pages, uintptr_t page) {
    FLK_ASSERT(pages->fd >= 0);
    int saved = errno;
    ssize_t bytes = pread(pages->fd, pages->bits, sizeof pages->bits,
                          (off_t)(page * sizeof *pages->bits));
    pages->first = page;
    pages->count = bytes > 0 ? (size_t)bytes / sizeof *pages->bits : 0;
    errno = saved;
}

bool flk_pages_may_be_written(flk_pages *pages, uintptr_t address) {
    uintptr_t page = address / flk_platform_page_bytes();
    if (pages->fd < 0)
        return true;
    if (page - pages->first >= pages->count)
        read_from(pages, page);
    if (page - pages->first >= pages->count)
        return true;
    uint64_t bits = pages->bits[page - pages->first];
    return (bits & (IS_PRESENT | IS_SWAPPED)) && !(bits & IS_OF_FILE);
}
#endif

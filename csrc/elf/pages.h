// pages.h - which pages of private memory were ever written, read from the kernel. SPDX-License-Identifier: MIT
// Keeps:   the answers for the pages that were asked for last. The reader belongs to the caller.
// Cost:    one system call for each FLK_PAGES_AT_ONCE pages.
// Callers: one thread at a time for each reader; no lock, no allocation; errno is kept.
// Fails:   if /proc/self/pagemap cannot be read, every page may have been written.
// Source:  pagemap in the documentation of Linux: bits 61 (a page of a file, unchanged), 62 (swapped), 63 (present).
#ifndef FLK_PAGES_H
#define FLK_PAGES_H

#include "base/platform.h"

#ifdef FLK_HAS_ELF
enum { FLK_PAGES_AT_ONCE = 512 };
typedef struct flk_pages {
    int fd;
    uintptr_t first;  // number of the first page in `bits`
    size_t count;
    uint64_t bits[FLK_PAGES_AT_ONCE];
} flk_pages;

void flk_pages_open(flk_pages *pages);
// False: the page at this address was never written since it was mapped.
bool flk_pages_may_be_written(flk_pages *pages, uintptr_t address);
void flk_pages_close(flk_pages *pages);
#endif
#endif

// win32.h - what Windows has in place of POSIX.                          SPDX-License-Identifier: MIT
// Keeps:   nothing. Elsewhere it declares nothing.
// Gives:   the functions of POSIX that the core uses and mingw-w64 lacks, in terms of Windows, as far as the core needs
//          them. What only watching of libraries and the search for lost blocks use fails: neither exists there.
// Cost:    a call of the system each.
// Callers: the sources that use these functions. Compiled with mingw-w64; never run.
// Fails:   as the functions of POSIX do. An unmapped range returns its memory, and keeps its addresses reserved.
#ifndef FLK_WIN32_H
#define FLK_WIN32_H

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <errno.h>
#include <io.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <windows.h>
#undef near  // names of our own
#undef far

#define O_CLOEXEC 0
#ifndef _SC_PAGESIZE
#define _SC_PAGESIZE 30
#endif

static inline ssize_t pread(int file, void *to, size_t bytes, int64_t from) {
    (void)file, (void)to, (void)bytes, (void)from;
    return -1;
}

// Blocks of an aligned allocation could not be given to free().
static inline int posix_memalign(void **out, size_t alignment, size_t bytes) {
    (void)alignment, (void)bytes;
    *out = NULL;
    return ENOMEM;
}

// --- pages ---------------------------------------------------------------
enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
enum { MAP_PRIVATE = 2, MAP_ANONYMOUS = 32, MAP_SHARED = 1 };
enum { MADV_DONTNEED = 4 };
#define MAP_FAILED ((void *)-1)

static inline void *mmap(void *at, size_t bytes, int may, int flags, int file,
                         int64_t offset) {
    (void)may, (void)flags, (void)file, (void)offset;
    void *pages =
        VirtualAlloc(at, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    return pages ? pages : MAP_FAILED;
}

// A part of a reservation cannot be released, so only its memory is.
static inline int munmap(void *pages, size_t bytes) {
    return VirtualFree(pages, bytes, MEM_DECOMMIT) ? 0 : -1;
}

// The pages read as zero afterwards.
static inline int madvise(void *pages, size_t bytes, int advice) {
    (void)advice;
    return munmap(pages, bytes) == 0 &&
                   VirtualAlloc(pages, bytes, MEM_COMMIT, PAGE_READWRITE)
               ? 0
               : -1;
}

static inline int mprotect(void *pages, size_t bytes, int may) {
    DWORD before, now = may & PROT_WRITE  ? PAGE_READWRITE
                        : may & PROT_READ ? PAGE_READONLY
                                          : PAGE_NOACCESS;
    return VirtualProtect(pages, bytes, now, &before) ? 0 : -1;
}

static inline int mincore(void *pages, size_t bytes, unsigned char *out) {
    (void)pages, (void)bytes, (void)out;
    return -1;
}

static inline long sysconf(int name) {
    SYSTEM_INFO info;
    (void)name;
    GetSystemInfo(&info);
    return (long)info.dwPageSize;
}
#endif
#endif

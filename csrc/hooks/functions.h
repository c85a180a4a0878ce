// functions.h - the functions that are hooked: one table.                    SPDX-License-Identifier: MIT
// Keeps:   for each function its symbol, the type that reports show, the shape of its stub, which arguments hold the
//          size, and what must release its result. No other file contains names of the C and C++ libraries.
// Use:     FLK_FAMILY(X, ...) expands X(..., id, symbol, text, shape, sizes, release) for each function. `text` is
//          the type that reports show, `shape` selects the stub (hooks/stubs.c), `sizes` the arguments of the size.
// Cost:    flk_functions_named: one hash and, for most names, one probe. Callers: under FLK_RANK_ATTACH.
// Source:  ISO C11 and C23, POSIX.1, the GNU C library's manual; names of C++ operators: Itanium C++ ABI 5.1.
#ifndef FLK_FUNCTIONS_H
#define FLK_FUNCTIONS_H

#define FLK_FAMILY_C(X, ...)                                                   \
    X(__VA_ARGS__, MALLOC, "malloc", "malloc", ALLOCATE, FIRST, "free")        \
    X(__VA_ARGS__, CALLOC, "calloc", "calloc", ALLOCATE, PRODUCT, "free")      \
    X(__VA_ARGS__, ALIGNED_ALLOC, "aligned_alloc", "aligned_alloc", ALLOCATE,  \
      SECOND, "free")                                                          \
    X(__VA_ARGS__, MEMALIGN, "memalign", "memalign", ALLOCATE, SECOND, "free") \
    X(__VA_ARGS__, VALLOC, "valloc", "valloc", ALLOCATE, FIRST, "free")        \
    X(__VA_ARGS__, PVALLOC, "pvalloc", "pvalloc", ALLOCATE, FIRST, "free")     \
    X(__VA_ARGS__, POSIX_MEMALIGN, "posix_memalign", "posix_memalign", PLACE,  \
      THIRD, "free")                                                           \
    X(__VA_ARGS__, REALLOC, "realloc", "realloc", RESIZE, SECOND, "free")      \
    X(__VA_ARGS__, REALLOCARRAY, "reallocarray", "reallocarray", RESIZE,       \
      PRODUCT_AFTER, "free")                                                   \
    X(__VA_ARGS__, FREE, "free", "free", RELEASE, NONE, "free")                \
    X(__VA_ARGS__, CFREE, "cfree", "cfree", RELEASE, NONE, "free")             \
    X(__VA_ARGS__, FREE_SIZED, "free_sized", "free_sized", RELEASE, NONE,      \
      "free")                                                                  \
    X(__VA_ARGS__, FREE_ALIGNED_SIZED, "free_aligned_sized",                   \
      "free_aligned_sized", RELEASE, NONE, "free")

// Mangled parameters: m is size_t, Pv is void *, St11align_val_t is the
// alignment, RKSt9nothrow_t marks the forms that return NULL on failure.
#define FLK_FAMILY_NEW(X, ...)                                                 \
    X(__VA_ARGS__, NEW, "_Znwm", "operator new", ALLOCATE, FIRST, "delete")    \
    X(__VA_ARGS__, NEW_NOTHROW, "_ZnwmRKSt9nothrow_t", "operator new",         \
      ALLOCATE, FIRST, "delete")                                               \
    X(__VA_ARGS__, NEW_ALIGNED, "_ZnwmSt11align_val_t", "operator new",        \
      ALLOCATE, FIRST, "delete")                                               \
    X(__VA_ARGS__, NEW_ALIGNED_NOTHROW, "_ZnwmSt11align_val_tRKSt9nothrow_t",  \
      "operator new", ALLOCATE, FIRST, "delete")                               \
    X(__VA_ARGS__, NEWS, "_Znam", "operator new[]", ALLOCATE, FIRST,           \
      "delete[]")                                                              \
    X(__VA_ARGS__, NEWS_NOTHROW, "_ZnamRKSt9nothrow_t", "operator new[]",      \
      ALLOCATE, FIRST, "delete[]")                                             \
    X(__VA_ARGS__, NEWS_ALIGNED, "_ZnamSt11align_val_t", "operator new[]",     \
      ALLOCATE, FIRST, "delete[]")                                             \
    X(__VA_ARGS__, NEWS_ALIGNED_NOTHROW, "_ZnamSt11align_val_tRKSt9nothrow_t", \
      "operator new[]", ALLOCATE, FIRST, "delete[]")

#define FLK_FAMILY_DELETE(X, id, symbol, text, ...)                            \
    X(__VA_ARGS__, id, symbol, text, RELEASE, NONE, text)                      \
    X(__VA_ARGS__, id##_SIZED, symbol "m", text, RELEASE, NONE, text)          \
    X(__VA_ARGS__, id##_NOTHROW, symbol "RKSt9nothrow_t", text, RELEASE, NONE, \
      text)                                                                    \
    X(__VA_ARGS__, id##_ALIGNED, symbol "St11align_val_t", text, RELEASE,      \
      NONE, text)                                                              \
    X(__VA_ARGS__, id##_SIZED_ALIGNED, symbol "mSt11align_val_t", text,        \
      RELEASE, NONE, text)                                                     \
    X(__VA_ARGS__, id##_ALIGNED_NOTHROW,                                       \
      symbol "St11align_val_tRKSt9nothrow_t", text, RELEASE, NONE, text)

#define FLK_RETURNED(X, id, symbol, text, where, ...) \
    X(__VA_ARGS__, id, symbol, text, RETURN, where, "free")

// The caller must free what these functions return, but the block comes from
// a malloc call inside the C library, which also allocates blocks that it
// keeps. RETURNED: the caller's block is the return value. POINTED: it is
// what the first argument points to afterwards. ALL: the function returns
// several blocks, so every block allocated meanwhile counts as the caller's.
// Fortified callers use the _chk forms.
#define FLK_FAMILY_RETURNED(X, ...)                                           \
    FLK_RETURNED(X, STRDUP, "strdup", "strdup", RETURNED, __VA_ARGS__)        \
    FLK_RETURNED(X, STRNDUP, "strndup", "strndup", RETURNED, __VA_ARGS__)     \
    FLK_RETURNED(X, WCSDUP, "wcsdup", "wcsdup", RETURNED, __VA_ARGS__)        \
    FLK_RETURNED(X, GETLINE, "getline", "getline", POINTED, __VA_ARGS__)      \
    FLK_RETURNED(X, GETDELIM, "getdelim", "getdelim", POINTED, __VA_ARGS__)   \
    FLK_RETURNED(X, REALPATH, "realpath", "realpath", RETURNED, __VA_ARGS__)  \
    FLK_RETURNED(X, REALPATH_CHK, "__realpath_chk", "realpath", RETURNED,     \
                 __VA_ARGS__)                                                 \
    FLK_RETURNED(X, CANONICALIZE, "canonicalize_file_name",                   \
                 "canonicalize_file_name", RETURNED, __VA_ARGS__)             \
    FLK_RETURNED(X, GETCWD, "getcwd", "getcwd", RETURNED, __VA_ARGS__)        \
    FLK_RETURNED(X, GETCWD_CHK, "__getcwd_chk", "getcwd", RETURNED,           \
                 __VA_ARGS__)                                                 \
    FLK_RETURNED(X, CURRENT_DIR, "get_current_dir_name",                      \
                 "get_current_dir_name", RETURNED, __VA_ARGS__)               \
    FLK_RETURNED(X, TEMPNAM, "tempnam", "tempnam", RETURNED, __VA_ARGS__)     \
    FLK_RETURNED(X, SCANDIR, "scandir", "scandir", ALL, __VA_ARGS__)          \
    FLK_RETURNED(X, SCANDIR64, "scandir64", "scandir", ALL, __VA_ARGS__)      \
    FLK_RETURNED(X, OPEN_MEMSTREAM, "open_memstream", "open_memstream", ALL,  \
                 __VA_ARGS__)                                                 \
    FLK_RETURNED(X, OPEN_WMEMSTREAM, "open_wmemstream", "open_wmemstream",    \
                 ALL, __VA_ARGS__)                                            \
    FLK_RETURNED(X, VASPRINTF, "vasprintf", "asprintf", POINTED, __VA_ARGS__) \
    FLK_RETURNED(X, VASPRINTF_CHK, "__vasprintf_chk", "asprintf", POINTED,    \
                 __VA_ARGS__)                                                 \
    X(__VA_ARGS__, ASPRINTF, "asprintf", "asprintf", PRINT, NONE, "free")     \
    X(__VA_ARGS__, ASPRINTF_CHK, "__asprintf_chk", "asprintf", PRINT_CHK,     \
      NONE, "free")

#define FLK_FAMILY_MAP(X, ...)                                          \
    X(__VA_ARGS__, MMAP, "mmap", "mmap", MAP, SECOND, "munmap")         \
    X(__VA_ARGS__, MUNMAP, "munmap", "munmap", UNMAP, SECOND, "munmap") \
    X(__VA_ARGS__, MREMAP, "mremap", "mremap", REMAP, THIRD, "munmap")

// The mapping functions come last: FLK_FN_MMAP is the first of them.
#define FLK_FAMILY(X, ...)                                           \
    FLK_FAMILY_C(X, __VA_ARGS__)                                     \
    FLK_FAMILY_NEW(X, __VA_ARGS__)                                   \
    FLK_FAMILY_DELETE(X, DELETE, "_ZdlPv", "delete", __VA_ARGS__)    \
    FLK_FAMILY_DELETE(X, DELETES, "_ZdaPv", "delete[]", __VA_ARGS__) \
    FLK_FAMILY_RETURNED(X, __VA_ARGS__)                              \
    FLK_FAMILY_MAP(X, __VA_ARGS__)

// Aliases: other names under which the C library exports the same functions.
#define FLK_FAMILY_ALIASES(A)             \
    A("__libc_malloc", MALLOC)            \
    A("__libc_calloc", CALLOC)            \
    A("__libc_realloc", REALLOC)          \
    A("__libc_free", FREE)                \
    A("__libc_memalign", MEMALIGN)        \
    A("__libc_valloc", VALLOC)            \
    A("__libc_pvalloc", PVALLOC)          \
    A("__posix_memalign", POSIX_MEMALIGN) \
    A("__strdup", STRDUP)                 \
    A("__strndup", STRNDUP)               \
    A("__getdelim", GETDELIM)             \
    A("__asprintf", ASPRINTF)             \
    A("mmap64", MMAP)

#define FLK_FAMILY_ID(x_, id, symbol, text, shape, sizes, release) FLK_FN_##id,
typedef enum flk_function {
    FLK_FAMILY(FLK_FAMILY_ID, 0) FLK_FN_COUNT
} flk_function;

typedef enum flk_shape {
    FLK_SHAPE_ALLOCATE,
    FLK_SHAPE_PLACE,  // posix_memalign
    FLK_SHAPE_RESIZE,
    FLK_SHAPE_RELEASE,
    FLK_SHAPE_RETURN,  // the C library allocates the result itself
    FLK_SHAPE_PRINT,   // variadic: asprintf
    FLK_SHAPE_PRINT_CHK,
    FLK_SHAPE_MAP,
    FLK_SHAPE_UNMAP,
    FLK_SHAPE_REMAP,
} flk_shape;

typedef enum flk_sizes {
    FLK_SIZES_NONE,
    FLK_SIZES_FIRST,
    FLK_SIZES_SECOND,
    FLK_SIZES_THIRD,
    FLK_SIZES_PRODUCT,        // first times second
    FLK_SIZES_PRODUCT_AFTER,  // second times third
    FLK_SIZES_RETURNED,       // no size; where the caller's block is
    FLK_SIZES_POINTED,
    FLK_SIZES_ALL,
} flk_sizes;

typedef struct flk_function_info {
    const char *symbol, *text, *release;
    flk_shape shape;
    flk_sizes sizes;
} flk_function_info;
extern const flk_function_info flk_functions_info[FLK_FN_COUNT];

// The function with this symbol; FLK_FN_COUNT if it is not hooked.
flk_function flk_functions_named(const char *symbol);

#endif

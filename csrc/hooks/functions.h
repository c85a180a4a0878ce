// functions.h - the functions that are hooked: one table.                    SPDX-License-Identifier: MIT
// Keeps:   for each function its symbol, the type that reports show, the shape of its stub, which arguments hold the
//          size, and what must release its result. No other file contains names of the C and C++ libraries.
// Use:     FLK_FAMILY(X, ...) expands X(..., id, symbol, text, shape, sizes, release) for each function. `text` is
//          the type that reports show, `shape` selects the stub (hooks/stubs.c), `sizes` the arguments of the size.
// Cost:    flk_functions_named: one hash and, for most names, one probe. Callers: under FLK_RANK_ATTACH.
// Source:  ISO C11 and C23, POSIX.1, the GNU C library's manual; names of C++ operators: Itanium C++ ABI 5.1.
#ifndef FLK_FUNCTIONS_H
#define FLK_FUNCTIONS_H

#include <stdbool.h>

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

#define FLK_RETURNED(X, id, symbol, where, ...) \
    X(__VA_ARGS__, id, symbol, symbol, RETURN, where, "free")

// The caller must free what these functions return, but the block comes from
// a malloc call inside the C library, which also allocates blocks that it
// keeps. RETURNED: the caller's block is the return value. POINTED: it is what
// the first argument points to afterwards; POINTED_2, POINTED_3: the second,
// the third. LIST, LIST_AT: the second or third argument points to an array of
// blocks, all the caller's. Fortified callers use the _chk forms.
#define FLK_FAMILY_RETURNED(X, ...)                                          \
    FLK_RETURNED(X, STRDUP, "strdup", RETURNED, __VA_ARGS__)                 \
    FLK_RETURNED(X, STRNDUP, "strndup", RETURNED, __VA_ARGS__)               \
    FLK_RETURNED(X, WCSDUP, "wcsdup", RETURNED, __VA_ARGS__)                 \
    FLK_RETURNED(X, GETLINE, "getline", POINTED, __VA_ARGS__)                \
    FLK_RETURNED(X, GETDELIM, "getdelim", POINTED, __VA_ARGS__)              \
    FLK_RETURNED(X, REALPATH, "realpath", RETURNED, __VA_ARGS__)             \
    X(__VA_ARGS__, REALPATH_CHK, "__realpath_chk", "realpath", RETURN,       \
      RETURNED, "free")                                                      \
    FLK_RETURNED(X, CANONICALIZE, "canonicalize_file_name", RETURNED,        \
                 __VA_ARGS__)                                                \
    FLK_RETURNED(X, GETCWD, "getcwd", RETURNED, __VA_ARGS__)                 \
    X(__VA_ARGS__, GETCWD_CHK, "__getcwd_chk", "getcwd", RETURN, RETURNED,   \
      "free")                                                                \
    FLK_RETURNED(X, CURRENT_DIR, "get_current_dir_name", RETURNED,           \
                 __VA_ARGS__)                                                \
    FLK_RETURNED(X, TEMPNAM, "tempnam", RETURNED, __VA_ARGS__)               \
    FLK_RETURNED(X, BACKTRACE, "backtrace_symbols", RETURNED, __VA_ARGS__)   \
    X(__VA_ARGS__, VASPRINTF, "vasprintf", "asprintf", RETURN, POINTED,      \
      "free")                                                                \
    X(__VA_ARGS__, VASPRINTF_CHK, "__vasprintf_chk", "asprintf", RETURN,     \
      POINTED, "free")                                                       \
    X(__VA_ARGS__, ASPRINTF, "asprintf", "asprintf", PRINT, POINTED, "free") \
    X(__VA_ARGS__, ASPRINTF_CHK, "__asprintf_chk", "asprintf", PRINT_CHK,    \
      POINTED, "free")                                                       \
    FLK_RETURNED(X, ARGZ_CREATE, "argz_create", POINTED_2, __VA_ARGS__)      \
    FLK_RETURNED(X, ARGZ_CREATE_SEP, "argz_create_sep", POINTED_3,           \
                 __VA_ARGS__)                                                \
    FLK_RETURNED(X, ARGZ_ADD, "argz_add", POINTED, __VA_ARGS__)              \
    FLK_RETURNED(X, ARGZ_ADD_SEP, "argz_add_sep", POINTED, __VA_ARGS__)      \
    FLK_RETURNED(X, ARGZ_APPEND, "argz_append", POINTED, __VA_ARGS__)        \
    FLK_RETURNED(X, ARGZ_INSERT, "argz_insert", POINTED, __VA_ARGS__)        \
    FLK_RETURNED(X, ARGZ_REPLACE, "argz_replace", POINTED, __VA_ARGS__)      \
    FLK_RETURNED(X, ENVZ_ADD, "envz_add", POINTED, __VA_ARGS__)              \
    FLK_RETURNED(X, ENVZ_MERGE, "envz_merge", POINTED, __VA_ARGS__)          \
    X(__VA_ARGS__, SCANDIR, "scandir", "scandir", LIST, SECOND, "free")      \
    X(__VA_ARGS__, SCANDIRAT, "scandirat", "scandirat", LIST, THIRD, "free")

// scanf: each conversion with `m`, as %ms, gives the caller a block. FIRST,
// SECOND: which argument is the format; WIDE_...: and it is a wide text.
// __isoc99_ and __isoc23_ are what compilers call for the C standard in use.
#define FLK_SCAN(X, id, prefix, name, sizes, ...)                      \
    X(__VA_ARGS__, V##id, prefix "v" name, name, VSCAN, sizes, "free") \
    X(__VA_ARGS__, id, prefix name, name, SCAN, sizes, "free")
#define FLK_SCANS(X, of, prefix, ...)                                     \
    FLK_SCAN(X, SSCANF##of, prefix, "sscanf", SECOND, __VA_ARGS__)        \
    FLK_SCAN(X, FSCANF##of, prefix, "fscanf", SECOND, __VA_ARGS__)        \
    FLK_SCAN(X, SCANF##of, prefix, "scanf", FIRST, __VA_ARGS__)           \
    FLK_SCAN(X, SWSCANF##of, prefix, "swscanf", WIDE_SECOND, __VA_ARGS__) \
    FLK_SCAN(X, FWSCANF##of, prefix, "fwscanf", WIDE_SECOND, __VA_ARGS__) \
    FLK_SCAN(X, WSCANF##of, prefix, "wscanf", WIDE_FIRST, __VA_ARGS__)
#define FLK_FAMILY_SCAN(X, ...)                  \
    FLK_SCANS(X, , "", __VA_ARGS__)              \
    FLK_SCANS(X, _C99, "__isoc99_", __VA_ARGS__) \
    FLK_SCANS(X, _C23, "__isoc23_", __VA_ARGS__)

// Objects of the C library. Each is one block, at the address that leads to
// the rest of its memory, and ends by a function of its own. OBJECT and CLOSE:
// the argument is a structure of the caller's; the block is found in it, its
// size is computed (hooks/objects_of_libc.c).
#define FLK_OPENED(X, id, symbol, release, ...) \
    X(__VA_ARGS__, id, symbol, symbol, RETURN, RETURNED, release)
#define FLK_CLOSES(X, id, symbol, where, ...) \
    X(__VA_ARGS__, id, symbol, symbol, CLOSE, where, symbol)
#define FLK_FAMILY_OBJECTS(X, ...)                                           \
    FLK_OPENED(X, FOPEN, "fopen", "fclose", __VA_ARGS__)                     \
    FLK_OPENED(X, FDOPEN, "fdopen", "fclose", __VA_ARGS__)                   \
    FLK_OPENED(X, TMPFILE, "tmpfile", "fclose", __VA_ARGS__)                 \
    FLK_OPENED(X, FMEMOPEN, "fmemopen", "fclose", __VA_ARGS__)               \
    X(__VA_ARGS__, FOPENCOOKIE, "fopencookie", "fopencookie", COOKIE,        \
      RETURNED, "fclose")                                                    \
    FLK_OPENED(X, OPEN_MEMSTREAM, "open_memstream", "fclose", __VA_ARGS__)   \
    FLK_OPENED(X, OPEN_WMEMSTREAM, "open_wmemstream", "fclose", __VA_ARGS__) \
    FLK_CLOSES(X, FCLOSE, "fclose", FIRST, __VA_ARGS__)                      \
    FLK_OPENED(X, POPEN, "popen", "pclose", __VA_ARGS__)                     \
    FLK_CLOSES(X, PCLOSE, "pclose", FIRST, __VA_ARGS__)                      \
    FLK_OPENED(X, SETMNTENT, "setmntent", "endmntent", __VA_ARGS__)          \
    FLK_CLOSES(X, ENDMNTENT, "endmntent", FIRST, __VA_ARGS__)                \
    FLK_OPENED(X, OPENDIR, "opendir", "closedir", __VA_ARGS__)               \
    FLK_OPENED(X, FDOPENDIR, "fdopendir", "closedir", __VA_ARGS__)           \
    FLK_CLOSES(X, CLOSEDIR, "closedir", FIRST, __VA_ARGS__)                  \
    FLK_OPENED(X, ICONV_OPEN, "iconv_open", "iconv_close", __VA_ARGS__)      \
    FLK_CLOSES(X, ICONV_CLOSE, "iconv_close", FIRST, __VA_ARGS__)            \
    FLK_OPENED(X, CATOPEN, "catopen", "catclose", __VA_ARGS__)               \
    FLK_CLOSES(X, CATCLOSE, "catclose", FIRST, __VA_ARGS__)                  \
    FLK_OPENED(X, DUPLOCALE, "duplocale", "freelocale", __VA_ARGS__)         \
    X(__VA_ARGS__, NEWLOCALE, "newlocale", "newlocale", OBJECT, LOCALE,      \
      "freelocale")                                                          \
    FLK_CLOSES(X, FREELOCALE, "freelocale", FIRST, __VA_ARGS__)              \
    X(__VA_ARGS__, GETADDRINFO, "getaddrinfo", "getaddrinfo", OBJECT,        \
      ADDRESSES, "freeaddrinfo")                                             \
    FLK_CLOSES(X, FREEADDRINFO, "freeaddrinfo", FIRST, __VA_ARGS__)          \
    X(__VA_ARGS__, GETIFADDRS, "getifaddrs", "getifaddrs", RETURN, POINTED,  \
      "freeifaddrs")                                                         \
    FLK_CLOSES(X, FREEIFADDRS, "freeifaddrs", FIRST, __VA_ARGS__)            \
    X(__VA_ARGS__, IF_NAMEINDEX, "if_nameindex", "if_nameindex", OBJECT,     \
      INTERFACES, "if_freenameindex")                                        \
    FLK_CLOSES(X, IF_FREENAMEINDEX, "if_freenameindex", FIRST, __VA_ARGS__)  \
    X(__VA_ARGS__, GLOB, "glob", "glob", OBJECT, GLOB, "globfree")           \
    FLK_CLOSES(X, GLOBFREE, "globfree", GLOB, __VA_ARGS__)                   \
    X(__VA_ARGS__, WORDEXP, "wordexp", "wordexp", OBJECT, WORDS, "wordfree") \
    FLK_CLOSES(X, WORDFREE, "wordfree", WORDS, __VA_ARGS__)                  \
    X(__VA_ARGS__, REGCOMP, "regcomp", "regcomp", OBJECT, REGEX, "regfree")  \
    FLK_CLOSES(X, REGFREE, "regfree", REGEX, __VA_ARGS__)

// Memory that an extension takes from the interpreter's allocators, three
// functions for each of the three domains, in the order of flk_domain. Then
// functions of the interpreter that return such memory as a text.
#define FLK_DOMAIN(X, id, name, ...)                                       \
    X(__VA_ARGS__, id##_MALLOC, name "Malloc", name "Malloc", PYTHON_MAKE, \
      FIRST, name "Free")                                                  \
    X(__VA_ARGS__, id##_CALLOC, name "Calloc", name "Calloc", PYTHON_MAKE, \
      PRODUCT, name "Free")                                                \
    X(__VA_ARGS__, id##_REALLOC, name "Realloc", name "Realloc",           \
      PYTHON_RESIZE, SECOND, name "Free")
#define FLK_FAMILY_OF_PYTHON(X, ...)                                         \
    FLK_DOMAIN(X, PYRAW, "PyMem_Raw", __VA_ARGS__)                           \
    FLK_DOMAIN(X, PYMEM, "PyMem_", __VA_ARGS__)                              \
    FLK_DOMAIN(X, PYOBJECT, "PyObject_", __VA_ARGS__)                        \
    X(__VA_ARGS__, DECODE_LOCALE, "Py_DecodeLocale", "Py_DecodeLocale",      \
      PYTHON_TEXT, WIDE, "PyMem_RawFree")                                    \
    X(__VA_ARGS__, ENCODE_LOCALE, "Py_EncodeLocale", "Py_EncodeLocale",      \
      PYTHON_TEXT, BYTES, "PyMem_Free")                                      \
    X(__VA_ARGS__, AS_WIDE, "PyUnicode_AsWideCharString",                    \
      "PyUnicode_AsWideCharString", PYTHON_TEXT, WIDE_COUNTED, "PyMem_Free") \
    X(__VA_ARGS__, AS_UCS4, "PyUnicode_AsUCS4Copy", "PyUnicode_AsUCS4Copy",  \
      PYTHON_TEXT, WIDE, "PyMem_Free")

#define FLK_FAMILY_MAP(X, ...)                                          \
    X(__VA_ARGS__, MMAP, "mmap", "mmap", MAP, SECOND, "munmap")         \
    X(__VA_ARGS__, MUNMAP, "munmap", "munmap", UNMAP, SECOND, "munmap") \
    X(__VA_ARGS__, MREMAP, "mremap", "mremap", REMAP, THIRD, "munmap")

// Several objects may define these, each its own.
#define FLK_FAMILY_OF_PROVIDERS(X, ...)                           \
    FLK_FAMILY_C(X, __VA_ARGS__)                                  \
    FLK_FAMILY_NEW(X, __VA_ARGS__)                                \
    FLK_FAMILY_DELETE(X, DELETE, "_ZdlPv", "delete", __VA_ARGS__) \
    FLK_FAMILY_DELETE(X, DELETES, "_ZdaPv", "delete[]", __VA_ARGS__)
// Functions of the C library alone; the first is FLK_FN_STRDUP. After them those
// of the interpreter, from FLK_FN_PYRAW_MALLOC on.
#define FLK_FAMILY_OF_LIBC(X, ...)      \
    FLK_FAMILY_RETURNED(X, __VA_ARGS__) \
    FLK_FAMILY_SCAN(X, __VA_ARGS__)     \
    FLK_FAMILY_OBJECTS(X, __VA_ARGS__)
// The mapping functions come last: FLK_FN_MMAP is the first of them.
#define FLK_FAMILY(X, ...)                  \
    FLK_FAMILY_OF_PROVIDERS(X, __VA_ARGS__) \
    FLK_FAMILY_OF_LIBC(X, __VA_ARGS__)      \
    FLK_FAMILY_OF_PYTHON(X, __VA_ARGS__)    \
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
    A("scandir64", SCANDIR)               \
    A("scandirat64", SCANDIRAT)           \
    A("fopen64", FOPEN)                   \
    A("tmpfile64", TMPFILE)               \
    A("glob64", GLOB)                     \
    A("globfree64", GLOBFREE)             \
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
    FLK_SHAPE_LIST,    // as RETURN, an array of results: scandir
    FLK_SHAPE_PRINT,   // variadic: asprintf
    FLK_SHAPE_PRINT_CHK,
    FLK_SHAPE_VSCAN,
    FLK_SHAPE_SCAN,    // variadic
    FLK_SHAPE_COOKIE,  // as RETURN, with a structure as argument
    FLK_SHAPE_OBJECT,
    FLK_SHAPE_CLOSE,
    FLK_SHAPE_PYTHON_MAKE,
    FLK_SHAPE_PYTHON_RESIZE,
    FLK_SHAPE_PYTHON_TEXT,
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
    FLK_SIZES_POINTED_2,
    FLK_SIZES_POINTED_3,
    FLK_SIZES_LOCALE,  // no size; which object
    FLK_SIZES_ADDRESSES,
    FLK_SIZES_INTERFACES,
    FLK_SIZES_GLOB,
    FLK_SIZES_WORDS,
    FLK_SIZES_REGEX,
    FLK_SIZES_WIDE_FIRST,  // no size; where the format is
    FLK_SIZES_WIDE_SECOND,
    FLK_SIZES_BYTES,  // of a text, with the end
    FLK_SIZES_WIDE,
    FLK_SIZES_WIDE_COUNTED,  // as WIDE; the second argument may have the count
} flk_sizes;

typedef struct flk_function_info {
    const char *symbol, *text, *release;
    flk_shape shape;
    flk_sizes sizes;
} flk_function_info;
extern const flk_function_info flk_functions_info[FLK_FN_COUNT];

// Whether one object of a process defines this function for all others. Its
// stubs and entries are those of provider 0, whatever place that object has.
static inline bool flk_functions_is_single(flk_function function) {
    return function >= FLK_FN_STRDUP && function < FLK_FN_MMAP;
}

static inline bool flk_functions_is_of_python(flk_function function) {
    return function >= FLK_FN_PYRAW_MALLOC && function < FLK_FN_MMAP;
}

// The variant of a variadic function that takes a va_list, which its stub calls;
// FLK_FN_COUNT if the function is not variadic.
flk_function flk_functions_variant(flk_function function);

// The function with this symbol; FLK_FN_COUNT if it is not hooked.
flk_function flk_functions_named(const char *symbol);

#endif

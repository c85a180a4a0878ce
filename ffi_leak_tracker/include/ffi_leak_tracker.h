// ffi_leak_tracker.h - reports objects of a C library to ffi_leak_tracker.   SPDX-License-Identifier: MIT
// Include it in any file of an extension or of a library: there is nothing to
// link and nothing to initialize. Each function does nothing and returns 0
// until Python imports ffi_leak_tracker, before this object is loaded or
// afterwards. Then it records in the reports of Python.
// Cost:    without the tracker, a load and a branch.
// Callers: any thread, with or without the GIL; from signal handlers too, where
//          an event may be lost and is counted then. errno is kept.
// Needs:   C99 or C++11, and gcc or clang on a system with ELF. Elsewhere, and
//          with FFILT_OFF defined, all functions are empty.
//
//     static ffilt_type tree = FFILT_TYPE("struct tree", "tree_new", "tree_free");
//     ffilt_track(made, sizeof *made, &tree);   // at the end of tree_new
//     ffilt_untrack(one);                       // at the beginning of tree_free
#ifndef FFI_LEAK_TRACKER_H
#define FFI_LEAK_TRACKER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What is recorded of an object beside address, size and call path. Make one
// static variable for each, with FFILT_TYPE.
typedef struct ffilt_type {
    const char *type;     // C type, as cffi writes it: "struct tree"
    const char *made_by;  // the function that makes it
    const char *release;  // the function that frees it; "a or b" for two
    uint32_t number;      // of the tracker; 0 at first
} ffilt_type;
#define FFILT_TYPE(type, made_by, release) {type, made_by, release, 0}

// A scope of Python, for an object that another thread makes. 0: the scope of
// the thread that records the object.
typedef uint64_t ffilt_scope;

// The functions of the tracker. Later versions only append to it.
typedef struct ffilt_api_1 {
    uint32_t version, bytes;
    const volatile unsigned char *enabled;  // not 0: tracking is on
    uint32_t (*type)(const char *type, const char *made_by,
                     const char *release);
    int (*track)(const void *object, size_t size_bytes, uint32_t type,
                 ffilt_scope scope);
    int (*untrack)(const void *object);
    int (*released)(const void *object, const char *function, const char *type);
    int (*retype)(const void *object, uint32_t type);
    ffilt_scope (*scope)(void);
    int (*refer)(const void *object, size_t size_bytes, uint32_t type,
                 ffilt_scope scope);
} ffilt_api_1;

// Where a shared object keeps their address.
typedef struct ffilt_client_1 {
    uint32_t version, bytes;
    const ffilt_api_1 *api;  // NULL without the tracker
} ffilt_client_1;

#if defined(__GNUC__) && defined(__ELF__) && !defined(FFILT_OFF)
#include <dlfcn.h>

// One in each shared object. The tracker finds it by its name when Python
// imports the tracker later.
__attribute__((weak, visibility("default"))) ffilt_client_1
    ffi_leak_tracker_client_1 = {1, sizeof(ffilt_client_1), NULL};

static inline const ffilt_api_1 *ffilt_api(void) {
    return __atomic_load_n(&ffi_leak_tracker_client_1.api, __ATOMIC_ACQUIRE);
}

// Runs when this object is loaded. Finds a tracker that was there before.
__attribute__((constructor)) static void ffilt_find_tracker(void) {
#ifdef RTLD_DEFAULT
    void *found = dlsym(RTLD_DEFAULT, "ffi_leak_tracker_api_1");
#else
    void *found = dlsym((void *)0, "ffi_leak_tracker_api_1");
#endif
    if (found)
        __atomic_store_n(&ffi_leak_tracker_client_1.api,
                         (const ffilt_api_1 *)found, __ATOMIC_RELEASE);
}

// The number of a type; 0: it cannot be recorded now.
static inline uint32_t ffilt_number_of(const ffilt_api_1 *api,
                                       ffilt_type *type) {
    uint32_t number = __atomic_load_n(&type->number, __ATOMIC_RELAXED);
    if (__builtin_expect(!number, 0)) {
        number = api->type(type->type, type->made_by, type->release);
        __atomic_store_n(&type->number, number, __ATOMIC_RELAXED);
    }
    return number;
}
#else
static inline const ffilt_api_1 *ffilt_api(void) { return NULL; }

static inline uint32_t ffilt_number_of(const ffilt_api_1 *api,
                                       ffilt_type *type) {
    (void)api;
    (void)type;
    return 0;
}
#endif

// 1: objects are recorded now. 0: tracking is off, or there is no tracker.
static inline int ffilt_is_enabled(void) {
    const ffilt_api_1 *api = ffilt_api();
    return api && *api->enabled;
}

// A tag of the scope that this thread is in, for ffilt_track_in. After the end of
// the scope it stands for the scope around it, and when Python has deleted the
// object of the scope, for the process.
static inline ffilt_scope ffilt_scope_here(void) {
    const ffilt_api_1 *api = ffilt_api();
    return api ? api->scope() : 0;
}

// Records an object in a scope. An older record of the address is replaced.
// Returns 1 if it was recorded. NULL is not recorded.
static inline int ffilt_track_in(ffilt_scope scope, const void *object,
                                 size_t size_bytes, ffilt_type *type) {
    const ffilt_api_1 *api = ffilt_api();
    if (!api || !*api->enabled || !object)
        return 0;
    return api->track(object, size_bytes, ffilt_number_of(api, type), scope);
}

// The same, in the scope of this thread.
static inline int ffilt_track(const void *object, size_t size_bytes,
                              ffilt_type *type) {
    return ffilt_track_in(0, object, size_bytes, type);
}

// Adds a reference to an object, as of a count of references. Its record stays
// until it is removed once more for each reference. An object that is not recorded
// is recorded with this reference. Returns 1 if it was counted or recorded.
static inline int ffilt_refer(const void *object, size_t size_bytes,
                              ffilt_type *type) {
    const ffilt_api_1 *api = ffilt_api();
    if (!api || !object || api->bytes <= offsetof(ffilt_api_1, refer))
        return 0;
    return api->refer(object, size_bytes, ffilt_number_of(api, type), 0);
}

// Removes the record of an object, or one of its references. Call it before the
// object is freed: then no other thread can get the address meanwhile. Returns 1 if there was one.
static inline int ffilt_untrack(const void *object) {
    const ffilt_api_1 *api = ffilt_api();
    return api && object ? api->untrack(object) : 0;
}

// The same for an object that `function` frees. If its type names another
// function, that is a misuse, and LeakTracker.misuses() has it. Returns 1 if
// there was a record, -1 if it was a misuse.
static inline int ffilt_released(const void *object, const char *function) {
    const ffilt_api_1 *api = ffilt_api();
    return api && object ? api->released(object, function, NULL) : 0;
}

// The same, and a misuse only for an object of this C type: a function may also
// free memory that begins at the same address.
static inline int ffilt_released_as(const void *object, const char *function,
                                    const char *type) {
    const ffilt_api_1 *api = ffilt_api();
    return api && object ? api->released(object, function, type) : 0;
}

// Gives the record of an object another type, as of a node that becomes part of
// a tree. Returns 1 if there is one.
static inline int ffilt_retype(const void *object, ffilt_type *type) {
    const ffilt_api_1 *api = ffilt_api();
    return api && object ? api->retype(object, ffilt_number_of(api, type)) : 0;
}

#ifdef __cplusplus
}
#endif
#endif

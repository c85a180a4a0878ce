// callbacks.c - C function pointers for libraries that take allocators.  SPDX-License-Identifier: MIT
// Contract: api/api.h. A C caller cannot receive an exception, so a misuse is queued for LeakTracker.misuses().
#include <errno.h>
#include <stdlib.h>

#include "api/api.h"
#include "registry/names.h"
#include "registry/scope.h"
#include "tracker/context.h"
#include "tracker/heap.h"
#include "tracker/misuse.h"

// An opaque pointer is the address of an element; its index is the number of
// the type. The elements are never read or written.
static char opaque_base[65536];

void *flk_opaque(uint16_t type) {
    FLK_ASSERT(type <= flk_names_count());
    return (void *)&opaque_base[type];
}

static uint16_t type_of(const void *opaque) {
    const char *element = opaque;
    if (element > opaque_base && element < opaque_base + sizeof opaque_base)
        return (uint16_t)(element - opaque_base);
    // Relaxed: all threads store the same number.
    static _Atomic uint16_t plain;
    uint16_t type = atomic_load_explicit(&plain, memory_order_relaxed);
    if (!type) {
        type = flk_type_intern("void", "callback", "free");
        atomic_store_explicit(&plain, type, memory_order_relaxed);
    }
    return type;
}

static flk_origin origin_of(const void *opaque) {
    flk_origin origin = {0, FLK_SCOPE_NOWHERE, FLK_PATH_WALK};
    if (flk_thread_is_inside())
        return origin;
    origin.scope = flk_context_here();
    origin.type = type_of(opaque);
    return origin;
}

static bool multiply(size_t count, size_t size_bytes, size_t *product) {
    FLK_ASSERT(product);
    if (size_bytes && count > SIZE_MAX / size_bytes) {
        errno = ENOMEM;
        return false;
    }
    *product = count * size_bytes;
    return true;
}

static void *reallocate(const void *opaque, void *address, size_t size_bytes,
                        flk_origin *origin) {
    FLK_ASSERT(origin);
    flk_misuse misuse;
    if (!origin->type)
        origin->type = type_of(opaque);
    void *moved = flk_heap_reallocate(address, size_bytes, origin, &misuse);
    if (misuse.verdict < 0 && misuse.verdict != FLK_NO_ROOM)
        flk_misuse_push(&misuse);
    // The damage is queued and the guards are repaired: the move may go on.
    if (!moved && misuse.verdict == FLK_OVERRUN)
        moved = flk_heap_reallocate(address, size_bytes, origin, &misuse);
    return moved;
}

// --- recording ---------------------------------------------------------
static void *allocate(const void *opaque, size_t size_bytes, bool zeroed) {
    flk_origin origin = {0, FLK_SCOPE_NOWHERE, FLK_PATH_WALK};
    if (flk_tracker_is_enabled())
        origin = origin_of(opaque);
    return flk_heap_allocate(size_bytes, 0, zeroed, &origin);
}

void *flk_c_opaque_malloc(void *opaque, size_t size_bytes) {
    return allocate(opaque, size_bytes, false);
}

void *flk_c_opaque_calloc(void *opaque, size_t count, size_t size_bytes) {
    size_t product;
    return multiply(count, size_bytes, &product)
               ? allocate(opaque, product, true)
               : NULL;
}

void *flk_c_zalloc(void *opaque, unsigned int count, unsigned int size_bytes) {
    size_t product;
    return multiply(count, size_bytes, &product)
               ? allocate(opaque, product, false)
               : NULL;
}

void *flk_c_opaque_realloc(void *opaque, void *address, size_t size_bytes) {
    flk_origin origin = origin_of(opaque);
    return reallocate(opaque, address, size_bytes, &origin);
}

void flk_c_opaque_free(void *opaque, void *address) {
    flk_misuse misuse;
    // Only the release of the type is compared: it is "free" for all.
    int verdict =
        flk_heap_free(address, type_of(opaque), FLK_PATH_WALK, &misuse);
    if (verdict != FLK_FREED && verdict != FLK_NOT_RECORDED)
        flk_misuse_push(&misuse);
}

void *flk_c_malloc(size_t size_bytes) {
    return allocate(NULL, size_bytes, false);
}

void *flk_c_calloc(size_t count, size_t size_bytes) {
    return flk_c_opaque_calloc(NULL, count, size_bytes);
}

void *flk_c_realloc(void *address, size_t size_bytes) {
    return flk_c_opaque_realloc(NULL, address, size_bytes);
}

void flk_c_free(void *address) { flk_c_opaque_free(NULL, address); }

// --- without records ---------------------------------------------------
void *flk_plain_malloc(size_t size_bytes) { return malloc(size_bytes); }

void *flk_plain_calloc(size_t count, size_t size_bytes) {
    return calloc(count, size_bytes);
}

void *flk_plain_opaque_malloc(void *opaque, size_t size_bytes) {
    (void)opaque;
    return malloc(size_bytes);
}

void *flk_plain_opaque_calloc(void *opaque, size_t count, size_t size_bytes) {
    (void)opaque;
    return calloc(count, size_bytes);
}

void *flk_plain_zalloc(void *opaque, unsigned int count,
                       unsigned int size_bytes) {
    size_t product;
    (void)opaque;
    return multiply(count, size_bytes, &product) ? malloc(product) : NULL;
}

void *flk_plain_opaque_realloc(void *opaque, void *address, size_t size_bytes) {
    flk_origin origin = {0, FLK_SCOPE_NOWHERE, FLK_PATH_WALK};
    return reallocate(opaque, address, size_bytes, &origin);
}

void *flk_plain_realloc(void *address, size_t size_bytes) {
    return flk_plain_opaque_realloc(NULL, address, size_bytes);
}

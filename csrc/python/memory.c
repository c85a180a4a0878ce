// memory.c - sees what the interpreter's allocators free.                   SPDX-License-Identifier: MIT
// Contract: hooks/interpreter.h. The functions free and realloc of a domain are wrapped from its first recorded block
// on until the end of the attachment. The wrappers get the context of the allocator that they wrap, so that a thread
// which reads function and context one after the other meanwhile calls a pair that works.
#ifndef FLK_PLAIN_PYTHON
#include "hooks/interpreter.h"
#include "python/callables.h"

// Written before the wrappers can be called. Relaxed: of a domain whose wrapper
// is in use.
static struct {
    _Atomic(void (*)(void *, void *)) free;
    _Atomic(void *(*)(void *, void *, size_t)) realloc;
    atomic_bool was_wrapped;
} originals[FLK_DOMAIN_COUNT];

#define ORIGINAL(domain, function) \
    atomic_load_explicit(&originals[domain].function, memory_order_relaxed)

#define WRAPPERS(name, domain)                                              \
    static void name##_free(void *context, void *block) {                   \
        if (FLK_UNLIKELY(flk_interpreter_may_hold(block)))                  \
            flk_interpreter_free(domain, context, block,                    \
                                 ORIGINAL(domain, free));                   \
        else                                                                \
            ORIGINAL(domain, free)(context, block);                         \
    }                                                                       \
    static void *name##_realloc(void *context, void *block, size_t bytes) { \
        return FLK_UNLIKELY(flk_interpreter_may_hold(block))                \
                   ? flk_interpreter_move(domain, context, block, bytes,    \
                                          ORIGINAL(domain, realloc))        \
                   : ORIGINAL(domain, realloc)(context, block, bytes);      \
    }
WRAPPERS(raw, FLK_DOMAIN_RAW)
WRAPPERS(mem, FLK_DOMAIN_MEM)
WRAPPERS(object, FLK_DOMAIN_OBJECT)

static const struct {
    void (*free)(void *, void *);
    void *(*realloc)(void *, void *, size_t);
    void *(*take)(size_t);
    void (*release)(void *);
} wrappers[FLK_DOMAIN_COUNT] = {
    {raw_free, raw_realloc, PyMem_RawMalloc, PyMem_RawFree},
    {mem_free, mem_realloc, PyMem_Malloc, PyMem_Free},
    {object_free, object_realloc, PyObject_Malloc, PyObject_Free},
};
_Static_assert((int)FLK_DOMAIN_RAW == PYMEM_DOMAIN_RAW &&
                   (int)FLK_DOMAIN_MEM == PYMEM_DOMAIN_MEM &&
                   (int)FLK_DOMAIN_OBJECT == PYMEM_DOMAIN_OBJ,
               "the domains of the interpreter");

// Another tool (tracemalloc) may have wrapped the wrappers, or may have put
// back what was there before them. Only a free shows which: wrapped twice, they
// would call each other for ever.
static bool is_seen_below(flk_domain domain) {
    if (!atomic_load(&originals[domain].was_wrapped))
        return false;
    void *block = wrappers[domain].take(1);
    return block && flk_interpreter_sees(block, wrappers[domain].release);
}

// Called inside a function of the domain, with the GIL where the domain needs
// it.
static bool begin_watch_of(flk_domain domain) {
    PyMemAllocatorEx now;
    FLK_ASSERT(domain < FLK_DOMAIN_COUNT);
    PyMem_GetAllocator((PyMemAllocatorDomain)domain, &now);
    if (now.free == wrappers[domain].free || is_seen_below(domain))
        return true;
    atomic_store(&originals[domain].free, now.free);
    atomic_store(&originals[domain].realloc, now.realloc);
    atomic_store(&originals[domain].was_wrapped, true);
    now.free = wrappers[domain].free;
    now.realloc = wrappers[domain].realloc;
    PyMem_SetAllocator((PyMemAllocatorDomain)domain, &now);
    return true;
}

// Below another tool's functions the wrappers stay. They pass everything on.
static void end_watch(void) {
    for (int i = 0; i < FLK_DOMAIN_COUNT; i++) {
        PyMemAllocatorEx now;
        PyMem_GetAllocator((PyMemAllocatorDomain)i, &now);
        if (now.free != wrappers[i].free)
            continue;
        now.free = atomic_load(&originals[i].free);
        now.realloc = atomic_load(&originals[i].realloc);
        PyMem_SetAllocator((PyMemAllocatorDomain)i, &now);
    }
}

void flk_memory_install(void) {
    flk_interpreter_set_watch(begin_watch_of, end_watch);
}
#endif

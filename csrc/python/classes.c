// classes.c - which classes are tracked. Contract: python/objects.h.     SPDX-License-Identifier: MIT
#include "python/objects.h"

#ifndef FLK_PLAIN_PYTHON
#include "base/config.h"
#include "base/platform.h"

// Entries of two caches; powers of two.
enum { ANSWERS = 1024, MEMOS = 64 };

// What a tracker found for a type; valid until flk_classes_changed.
typedef struct memo {
    const PyTypeObject *type;
    int index;  // of its nearest tracked class, or -1
    uint16_t name;
} memo;

typedef struct tracked {
    int count;  // one more than the last index in use
    PyTypeObject *classes[FLK_CLASSES_MAX];  // references; NULL: free
    memo memos[MEMOS];
} tracked;

static struct {
    // Guards all but `answers`. It is taken only with the GIL and never
    // across a release of it, so no thread holds it while another one forks.
    flk_lock lock;
    tracked trackers[FLK_TRACKERS_MAX];
    // For types met lately: the address of the type, plus 1 if it is tracked.
    // Each is one word, read without a lock. Relaxed: an answer is renewed
    // before the first object of a changed type can be made.
    atomic_uintptr_t answers[ANSWERS];
} known = {.lock = FLK_LOCK_INIT(FLK_RANK_CLASSES)};

static size_t hash_of(const PyTypeObject *type) {
    FLK_ASSERT(type);
    uintptr_t key = (uintptr_t)type;
    return key >> 4 ^ key >> 10 ^ key >> 16;
}

// --- the nearest class -------------------------------------------------
static int index_of(const tracked *t, const PyTypeObject *type) {
    FLK_ASSERT(t->count >= 0 && t->count <= FLK_CLASSES_MAX);
    for (int i = 0; i < t->count; i++)
        if (t->classes[i] == type)
            return i;
    return -1;
}

// The index of the first class in the type's method resolution order that is
// tracked; -1: none.
static int nearest(const tracked *t, PyTypeObject *type) {
    FLK_ASSERT(PyType_Check((PyObject *)type));
    PyObject *order = type->tp_mro;
    if (t->count == 0 || !order)
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(order); i++) {
        int index = index_of(t, (PyTypeObject *)PyTuple_GET_ITEM(order, i));
        if (index >= 0)
            return index;
    }
    return -1;
}

// The qualified name if it can be read without making an object, else the
// name.
static const char *name_of(PyTypeObject *type) {
    FLK_ASSERT(type->tp_name);
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE))
        return type->tp_name;
    PyObject *text = ((PyHeapTypeObject *)type)->ht_qualname;
    return text && PyUnicode_IS_COMPACT_ASCII(text)
               ? (const char *)PyUnicode_1BYTE_DATA(text)
               : type->tp_name;
}

static memo look_up(int tracker, PyTypeObject *type) {
    FLK_ASSERT(tracker >= 0 && tracker < FLK_TRACKERS_MAX);
    memo found = {.type = type};
    flk_lock_take(&known.lock);
    found.index = nearest(&known.trackers[tracker], type);
    flk_lock_release(&known.lock);
    if (found.index >= 0)
        found.name = flk_type_intern(name_of(type), "object", "gc");
    return found;
}

int flk_classes_of(int tracker, PyTypeObject *type, uint16_t *name) {
    FLK_ASSERT(tracker >= 0 && tracker < FLK_TRACKERS_MAX);
    memo *entry = &known.trackers[tracker].memos[hash_of(type) % MEMOS];
    flk_lock_take(&known.lock);
    memo found = *entry;
    flk_lock_release(&known.lock);
    if (FLK_UNLIKELY(found.type != type)) {
        found = look_up(tracker, type);
        flk_lock_take(&known.lock);
        *entry = found;
        flk_lock_release(&known.lock);
    }
    *name = found.name;
    return found.index;
}

// --- is it tracked? ----------------------------------------------------
static FLK_NOINLINE bool look_in_all(PyTypeObject *type) {
    bool is_tracked = false;
    flk_lock_take(&known.lock);
    for (int i = 0; i < FLK_TRACKERS_MAX && !is_tracked; i++)
        is_tracked = nearest(&known.trackers[i], type) >= 0;
    flk_lock_release(&known.lock);
    if (type->tp_mro)
        atomic_store_explicit(&known.answers[hash_of(type) % ANSWERS],
                              (uintptr_t)type | is_tracked,
                              memory_order_relaxed);
    return is_tracked;
}

bool flk_classes_is_tracked(PyTypeObject *type) {
    FLK_ASSERT(((uintptr_t)type & 1) == 0);
    uintptr_t answer = atomic_load_explicit(
        &known.answers[hash_of(type) % ANSWERS], memory_order_relaxed);
    if (FLK_LIKELY((answer & ~(uintptr_t)1) == (uintptr_t)type))
        return answer & 1;
    return look_in_all(type);
}

static void forget_memos(const PyTypeObject *type) {
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        for (int k = 0; k < MEMOS; k++) {
            memo *entry = &known.trackers[i].memos[k];
            if (!type || entry->type == type)
                entry->type = NULL;
        }
}

void flk_classes_changed(const PyTypeObject *type) {
    FLK_ASSERT(!type || PyType_Check((PyObject *)(uintptr_t)type));
    for (size_t i = 0; i < ANSWERS; i++) {
        size_t k = type ? hash_of(type) % ANSWERS : i;
        uintptr_t answer =
            atomic_load_explicit(&known.answers[k], memory_order_relaxed);
        if (!type || (answer & ~(uintptr_t)1) == (uintptr_t)type)
            atomic_store_explicit(&known.answers[k], 0, memory_order_relaxed);
        if (type)
            break;
    }
    flk_lock_take(&known.lock);
    forget_memos(type);
    flk_lock_release(&known.lock);
}

// --- adding and removing -----------------------------------------------
int flk_classes_add(int tracker, PyTypeObject *type) {
    FLK_ASSERT(tracker >= 0 && tracker < FLK_TRACKERS_MAX);
    tracked *t = &known.trackers[tracker];
    Py_INCREF(type);
    flk_lock_take(&known.lock);
    int index = 0;
    while (index < t->count && t->classes[index])
        index++;
    bool has_room = index < FLK_CLASSES_MAX;
    if (has_room) {
        t->classes[index] = type;
        if (index == t->count)
            t->count++;
    }
    flk_lock_release(&known.lock);
    if (!has_room)
        Py_DECREF(type);
    flk_classes_changed(NULL);
    return has_room ? index : -1;
}

PyTypeObject *flk_classes_remove(int tracker, int index) {
    if (index < 0 || index >= FLK_CLASSES_MAX)
        return NULL;
    FLK_ASSERT(tracker >= 0 && tracker < FLK_TRACKERS_MAX);
    tracked *t = &known.trackers[tracker];
    flk_lock_take(&known.lock);
    PyTypeObject *type = t->classes[index];
    t->classes[index] = NULL;
    while (t->count > 0 && !t->classes[t->count - 1])
        t->count--;
    flk_lock_release(&known.lock);
    flk_classes_changed(NULL);
    return type;
}
#endif

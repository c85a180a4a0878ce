// classes.c - which classes are asked for. Contract: python/objects.h.  SPDX-License-Identifier: MIT
#include "python/objects.h"

#ifndef PYPY_VERSION
#include "base/config.h"
#include "base/platform.h"

enum { SEEN_WAYS = 1024, MEMO_WAYS = 64 };

// The answer for a type, until it changes.
typedef struct memo {
    const PyTypeObject *type;
    int place;
    uint16_t name;
} memo;

typedef struct asked {
    int count;  // places in use and before the last of those
    PyTypeObject *classes[FLK_CLASSES_MAX];  // references; NULL = free
    memo memos[MEMO_WAYS];
} asked;

static struct {
    flk_lock lock;  // guards all but `seen`
    asked trackers[FLK_TRACKERS_MAX];
    // Types met lately: the address, plus 1 if it is asked for. One word
    // each, so that it is read without a lock: relaxed, what it says of a
    // type is renewed before the type's first object can be made.
    atomic_uintptr_t seen[SEEN_WAYS];
} known = {.lock = FLK_LOCK_INIT(FLK_RANK_CLASSES)};

static size_t way_of(const PyTypeObject *type) {
    uintptr_t key = (uintptr_t)type;
    return key >> 4 ^ key >> 10 ^ key >> 16;
}

// --- the nearest class -------------------------------------------------
static int place_of(const asked *a, const PyTypeObject *type) {
    for (int i = 0; i < a->count; i++)
        if (a->classes[i] == type)
            return i;
    return -1;
}

static int nearest(const asked *a, PyTypeObject *type) {
    PyObject *order = type->tp_mro;
    if (a->count == 0 || !order)
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(order); i++) {
        int place = place_of(a, (PyTypeObject *)PyTuple_GET_ITEM(order, i));
        if (place >= 0)
            return place;
    }
    return -1;
}

// The qualified name where it can be read without making anything.
static const char *name_of(PyTypeObject *type) {
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE))
        return type->tp_name;
    PyObject *text = ((PyHeapTypeObject *)type)->ht_qualname;
    return text && PyUnicode_IS_COMPACT_ASCII(text)
               ? (const char *)PyUnicode_1BYTE_DATA(text)
               : type->tp_name;
}

static memo look_up(int tracker, PyTypeObject *type) {
    memo found = {.type = type};
    flk_lock_take(&known.lock);
    found.place = nearest(&known.trackers[tracker], type);
    flk_lock_release(&known.lock);
    if (found.place >= 0)
        found.name = flk_type_intern(name_of(type), "object", "gc");
    return found;
}

int flk_classes_of(int tracker, PyTypeObject *type, uint16_t *name) {
    memo *way = &known.trackers[tracker].memos[way_of(type) % MEMO_WAYS];
    flk_lock_take(&known.lock);
    memo found = *way;
    flk_lock_release(&known.lock);
    if (FLK_UNLIKELY(found.type != type)) {
        found = look_up(tracker, type);
        flk_lock_take(&known.lock);
        *way = found;
        flk_lock_release(&known.lock);
    }
    *name = found.name;
    return found.place;
}

// --- does anybody ask? -------------------------------------------------
static FLK_NOINLINE bool ask_all(PyTypeObject *type) {
    bool wanted = false;
    flk_lock_take(&known.lock);
    for (int i = 0; i < FLK_TRACKERS_MAX && !wanted; i++)
        wanted = nearest(&known.trackers[i], type) >= 0;
    flk_lock_release(&known.lock);
    if (type->tp_mro)
        atomic_store_explicit(&known.seen[way_of(type) % SEEN_WAYS],
                              (uintptr_t)type | wanted, memory_order_relaxed);
    return wanted;
}

bool flk_classes_is_wanted(PyTypeObject *type) {
    uintptr_t seen = atomic_load_explicit(&known.seen[way_of(type) % SEEN_WAYS],
                                          memory_order_relaxed);
    if (FLK_LIKELY((seen & ~(uintptr_t)1) == (uintptr_t)type))
        return seen & 1;
    return ask_all(type);
}

static void forget_memos(const PyTypeObject *type) {
    for (int i = 0; i < FLK_TRACKERS_MAX; i++)
        for (int k = 0; k < MEMO_WAYS; k++) {
            memo *way = &known.trackers[i].memos[k];
            if (!type || way->type == type)
                way->type = NULL;
        }
}

void flk_classes_changed(const PyTypeObject *type) {
    for (size_t i = 0; i < SEEN_WAYS; i++) {
        size_t k = type ? way_of(type) % SEEN_WAYS : i;
        uintptr_t seen =
            atomic_load_explicit(&known.seen[k], memory_order_relaxed);
        if (!type || (seen & ~(uintptr_t)1) == (uintptr_t)type)
            atomic_store_explicit(&known.seen[k], 0, memory_order_relaxed);
        if (type)
            break;
    }
    flk_lock_take(&known.lock);
    forget_memos(type);
    flk_lock_release(&known.lock);
}

// --- adding and removing -----------------------------------------------
int flk_classes_add(int tracker, PyTypeObject *type) {
    asked *a = &known.trackers[tracker];
    Py_INCREF(type);
    flk_lock_take(&known.lock);
    int place = 0;
    while (place < a->count && a->classes[place])
        place++;
    bool has_room = place < FLK_CLASSES_MAX;
    if (has_room) {
        a->classes[place] = type;
        if (place == a->count)
            a->count++;
    }
    flk_lock_release(&known.lock);
    if (!has_room)
        Py_DECREF(type);
    flk_classes_changed(NULL);
    return has_room ? place : -1;
}

PyTypeObject *flk_classes_remove(int tracker, int place) {
    asked *a = &known.trackers[tracker];
    flk_lock_take(&known.lock);
    PyTypeObject *type = a->classes[place];
    a->classes[place] = NULL;
    while (a->count > 0 && !a->classes[a->count - 1])
        a->count--;
    flk_lock_release(&known.lock);
    flk_classes_changed(NULL);
    return type;
}
#endif

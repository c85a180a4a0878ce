// cdata.c - cdata through cffi, and the probe of its layout. Contract: python/cdata.h. SPDX-License-Identifier: MIT
#include "python/callables.h"

#ifndef FLK_PLAIN_PYTHON
#include "python/cdata.h"

flk_cdata_layout flk_cdata_known;

// The functions of cffi that make and read a cdata: numbers 10 and 11 of the
// table that each compiled cffi module gets (_cffi_include.h, version 0x2601).
enum { EXPORT_FROM_C_POINTER = 10, EXPORT_TO_C_POINTER = 11 };
static PyObject *(*from_c_pointer)(char *, void *);
static char *(*to_c_pointer)(PyObject *, void *);

void flk_cdata_bind(void **exports) {
    FLK_ASSERT(exports[EXPORT_FROM_C_POINTER] && exports[EXPORT_TO_C_POINTER]);
    // A function pointer from void *, as in cffi itself.
    *(void **)&from_c_pointer = exports[EXPORT_FROM_C_POINTER];
    *(void **)&to_c_pointer = exports[EXPORT_TO_C_POINTER];
}

PyObject *flk_cdata_any(void *memory, PyObject *pointer_type) {
    FLK_ASSERT(from_c_pointer && pointer_type);
    return from_c_pointer(memory, pointer_type);
}

// --- pointer types -----------------------------------------------------
static void pointer_learn(const flk_cdata *cdata) {
    FLK_ASSERT(cdata->ctype);
    PyObject *before = atomic_exchange_explicit(
        &flk_cdata_known.pointers[flk_cdata_pointer_index(cdata->ctype)],
        Py_NewRef(cdata->ctype), memory_order_relaxed);
    Py_XDECREF(before);
}

int flk_cdata_pointer_any(PyObject *object, void **memory) {
    FLK_ASSERT(to_c_pointer && flk_callables.void_pointer);
    if (Py_TYPE(object) != flk_cdata_known.plain) {
        PyErr_SetString(PyExc_TypeError, "not a pointer without an owner");
        return false;
    }
    *memory = to_c_pointer(object, flk_callables.void_pointer);
    if (!*memory)
        return !PyErr_Occurred();
    const flk_cdata *cdata = (const flk_cdata *)(const void *)object;
    if (flk_cdata_known.type && cdata->data == *memory)
        pointer_learn(cdata);
    return true;
}

bool flk_cdata_address(PyObject *object, void **memory) {
    FLK_ASSERT(to_c_pointer && flk_callables.void_pointer);
    if (!PyObject_TypeCheck(object, flk_cdata_known.plain))
        return false;
    *memory = to_c_pointer(object, flk_callables.void_pointer);
    if (*memory || !PyErr_Occurred())
        return true;
    PyErr_Clear();
    return false;
}

// --- the layout --------------------------------------------------------
int flk_cdata_probe(PyObject *void_pointer) {
    void *address = &flk_cdata_known;
    FLK_ASSERT(from_c_pointer && void_pointer);
    PyObject *probe = from_c_pointer(address, void_pointer);
    if (!probe)
        return -1;
    PyTypeObject *type = Py_TYPE(probe);
    const flk_cdata *cdata = (const flk_cdata *)(const void *)probe;
    bool is_known =
        type->tp_basicsize == sizeof *cdata && type->tp_itemsize == 0 &&
        !PyType_IS_GC(type) && cdata->ctype == void_pointer &&
        cdata->data == address && !cdata->weak_references &&
        type->tp_weaklistoffset == offsetof(flk_cdata, weak_references);
    // The type is static, or kept alive by cffi's module.
    flk_cdata_known.plain = type;
    flk_cdata_known.type = is_known ? type : NULL;
    Py_DECREF(probe);
    return 0;
}
#else
void flk_cdata_bind(void **exports) { (void)exports; }
#endif

// taking.c - an extension module that takes memory from Python's allocators.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *address(void *block) { return PyLong_FromVoidPtr(block); }
static void *block_of(PyObject *number) { return PyLong_AsVoidPtr(number); }

#define DOMAIN(name, prefix)                                                 \
    static PyObject *name##_malloc(PyObject *self, PyObject *size) {         \
        return address(prefix##Malloc(PyLong_AsSize_t(size)));               \
    }                                                                        \
    static PyObject *name##_calloc(PyObject *self, PyObject *size) {         \
        return address(prefix##Calloc(PyLong_AsSize_t(size), 2));            \
    }                                                                        \
    static PyObject *name##_realloc(PyObject *self, PyObject *args) {        \
        PyObject *block, *size;                                              \
        if (!PyArg_ParseTuple(args, "OO", &block, &size))                    \
            return NULL;                                                     \
        return address(                                                      \
            prefix##Realloc(block_of(block), PyLong_AsSize_t(size)));        \
    }                                                                        \
    static PyObject *name##_free(PyObject *self, PyObject *block) {          \
        prefix##Free(block_of(block));                                       \
        Py_RETURN_NONE;                                                      \
    }
DOMAIN(raw, PyMem_Raw)
DOMAIN(mem, PyMem_)
DOMAIN(object, PyObject_)

static PyObject *wide(PyObject *self, PyObject *text) {
    return address(PyUnicode_AsWideCharString(text, NULL));
}
static PyObject *encoded(PyObject *self, PyObject *text) {
    wchar_t *letters = PyUnicode_AsWideCharString(text, NULL);
    char *bytes = Py_EncodeLocale(letters, NULL);
    PyMem_Free(letters);
    return address(bytes);
}

// Without the GIL.
static PyObject *in_a_thread(PyObject *self, PyObject *size) {
    size_t bytes = PyLong_AsSize_t(size);
    void *block;
    Py_BEGIN_ALLOW_THREADS
    block = PyMem_RawMalloc(bytes);
    Py_END_ALLOW_THREADS
    return address(block);
}

// Objects: the interpreter's.
static PyObject *objects(PyObject *self, PyObject *count) {
    PyObject *list = PyList_New(0);
    for (long i = PyLong_AsLong(count); i > 0; i--) {
        PyObject *one = Py_BuildValue("(s,i,{s:d})", "a text of some length",
                                      100000 + (int)i, "key", 1.5);
        PyList_Append(list, one);
        Py_DECREF(one);
    }
    return list;
}

// The functions that free in each domain now.
static PyObject *frees(PyObject *self, PyObject *unused) {
    PyMemAllocatorEx raw, mem, object;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &mem);
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &object);
    return Py_BuildValue("(KKK)", (unsigned long long)raw.free,
                         (unsigned long long)mem.free,
                         (unsigned long long)object.free);
}

// An object whose block the interpreter frees, by tp_free.
typedef struct thing {
    PyObject_HEAD
    double number;
} thing;
static PyTypeObject thing_type;
static PyObject *thing_alloc(PyTypeObject *type, Py_ssize_t count) {
    PyObject *made = PyObject_Malloc(type->tp_basicsize);
    return made ? PyObject_Init(made, type) : NULL;
}
static PyTypeObject thing_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "taking.thing",
    .tp_basicsize = sizeof(thing),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_alloc = thing_alloc,
};

#define METHODS(name)                                                \
    {#name "_malloc", name##_malloc, METH_O, NULL},                  \
    {#name "_calloc", name##_calloc, METH_O, NULL},                  \
    {#name "_realloc", name##_realloc, METH_VARARGS, NULL},          \
    {#name "_free", name##_free, METH_O, NULL}
static PyMethodDef methods[] = {METHODS(raw),
                                METHODS(mem),
                                METHODS(object),
                                {"wide", wide, METH_O, NULL},
                                {"encoded", encoded, METH_O, NULL},
                                {"in_a_thread", in_a_thread, METH_O, NULL},
                                {"objects", objects, METH_O, NULL},
                                {"frees", frees, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "taking", NULL,
                                        -1, methods};

__attribute__((visibility("default"))) PyObject *PyInit_taking(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module || PyType_Ready(&thing_type) < 0)
        return NULL;
#ifdef Py_GIL_DISABLED
    PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
#endif
    Py_INCREF(&thing_type);
    PyModule_AddObject(module, "thing", (PyObject *)&thing_type);
    return module;
}

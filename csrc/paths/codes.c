// codes.c - reads code objects, and hears of their death.                SPDX-License-Identifier: MIT
#include <Python.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/store.h"
#include "paths/codes.h"
#include "paths/pyframe.h"

#if !defined(PYPY_VERSION)
#include <frameobject.h>

enum { PREFIX_MAX = PATH_MAX, CODE_UNIT_BYTES = 2 };

static struct {
    atomic_bool is_installed;  // release: `problem` and the rest are set
    const char *problem;       // NULL: none
    char prefix[PREFIX_MAX];   // constant once installed
    // Texts that are not ASCII, one after the other; flk_sites' lock.
    char function[FLK_STORE_TEXT_MAX], filename[FLK_STORE_TEXT_MAX];
#if PY_VERSION_HEX < 0x030C0000
    destructor dealloc;  // the GIL
#endif
} codes;

// --- texts -------------------------------------------------------------
// Surrogates are encoded like any other character: undecodable bytes of a
// file name are lone ones.
static size_t utf8_encode(Py_UCS4 c, char out[4]) {
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (length == 1) {
        out[0] = (char)c;
        return 1;
    }
    for (size_t i = length - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(lead[length] | c);
    return length;
}

static bool is_readable_text(PyObject *text) {
    if (!text || !PyUnicode_Check(text))
        return false;
#if PY_VERSION_HEX < 0x030C0000
    return PyUnicode_IS_READY(text);
#else
    return true;
#endif
}

// The text itself if it is ASCII, else what fits of it in `buffer`.
static const char *utf8_read(PyObject *text, char *buffer, size_t bytes) {
    FLK_ASSERT(bytes > 4);
    if (!is_readable_text(text))
        return "";
    if (PyUnicode_IS_COMPACT_ASCII(text))
        return PyUnicode_DATA(text);
    size_t used = 0;
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(text); i++) {
        if (used + 4 >= bytes)
            break;
        used += utf8_encode(PyUnicode_READ_CHAR(text, i), buffer + used);
    }
    buffer[used] = '\0';
    return buffer;
}

static bool has_prefix(PyObject *text, const char *prefix) {
    if (!is_readable_text(text) || !*prefix)
        return false;
    for (Py_ssize_t i = 0; *prefix; i++) {
        char bytes[4];
        if (i >= PyUnicode_GET_LENGTH(text))
            return false;
        size_t n = utf8_encode(PyUnicode_READ_CHAR(text, i), bytes);
        if (strncmp(prefix, bytes, n) != 0)
            return false;
        prefix += n;
    }
    return true;
}

// --- the reader --------------------------------------------------------
static void read_names(const void *address, const char **function,
                       const char **filename) {
    const PyCodeObject *code = address;
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *name = code->co_qualname ? code->co_qualname : code->co_name;
#else
    PyObject *name = code->co_name;
#endif
    *function = utf8_read(name, codes.function, sizeof codes.function);
    *filename =
        utf8_read(code->co_filename, codes.filename, sizeof codes.filename);
}

// Both functions only decode the line table: PyCode_Addr2Line of 3.12 and
// later does not, under a tracer.
static void read_line(const void *address, int32_t offset, flk_site_info *out) {
    PyCodeObject *code = (PyCodeObject *)address;
#if PY_VERSION_HEX >= 0x030B0000
    if (offset >= Py_SIZE(code) * CODE_UNIT_BYTES)
        return;
    int line, end_line, column, end_column;
    if (!PyCode_Addr2Location(code, offset, &line, &column, &end_line,
                              &end_column))
        return;
    out->line = line;
    if (offset < 0)
        return;  // not begun: the line of `def`, no columns
    out->column = column;
#else
    out->line = PyCode_Addr2Line(code, offset);
#endif
}

static const flk_sites_reader reader = {read_names, read_line};

bool flk_codes_is_own(const void *code) {
    if (!flk_pyframe_hold())
        return false;
    bool is_own =
        has_prefix(((const PyCodeObject *)code)->co_filename, codes.prefix);
    flk_pyframe_release();
    return is_own;
}

// Files of the package whose paths begin so call C functions for others.
#define SEAM "_seam/core_"

bool flk_codes_is_seam(const void *code) {
    char prefix[PREFIX_MAX + sizeof SEAM];
    size_t length = strlen(codes.prefix);
    if (!flk_pyframe_hold())
        return false;
    PyObject *file = ((const PyCodeObject *)code)->co_filename;
    bool is_seam = has_prefix(file, codes.prefix);
    if (is_seam) {
        memcpy(prefix, codes.prefix, length);
        memcpy(prefix + length, SEAM, sizeof SEAM);
        is_seam = has_prefix(file, prefix);
    }
    flk_pyframe_release();
    return is_seam;
}

// --- death -------------------------------------------------------------
#if PY_VERSION_HEX >= 0x030C0000
// Before anything of the code object is given up, and no frame runs it.
static int code_event(PyCodeEvent event, PyCodeObject *code) {
    int saved = errno;
    if (event == PY_CODE_EVENT_DESTROY)
        flk_sites_retire(code);
    errno = saved;
    return 0;
}

static bool watch(void) { return PyCode_AddWatcher(code_event) >= 0; }
#else
// A frame that is being cleared may still name its code (3.11) while that is
// freed and the free is recorded: the address is retired afterwards. Nobody
// can have got it by then, since the GIL is kept.
static void code_dealloc(PyObject *code) {
    int saved = errno;
    flk_sites_dying(code);
    codes.dealloc(code);
    flk_sites_retire(code);
    errno = saved;
}

static bool watch(void) {
    if (PyCode_Type.tp_dealloc != code_dealloc) {
        codes.dealloc = PyCode_Type.tp_dealloc;
        PyCode_Type.tp_dealloc = code_dealloc;
    }
    return true;
}
#endif

// --- the walker tells the truth? ---------------------------------------
static bool is_frame(PyFrameObject *frame, const flk_raw_frame *raw) {
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool is_same = raw->code == code;
#if PY_VERSION_HEX >= 0x030B0000
    is_same = is_same && PyFrame_GetLasti(frame) == raw->offset;
#endif
    Py_DECREF(code);
    return is_same;
}

// Compares with the public functions, from this frame out.
static bool walker_agrees(void) {
    flk_raw_frame raw[16];
    size_t n = flk_pyframe_walk(raw, 16, NULL), i = 0;
    PyFrameObject *frame = PyEval_GetFrame();
    Py_XINCREF(frame);
    bool agrees = true;
    while (frame && agrees && i < n) {
        agrees = is_frame(frame, &raw[i++]);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    agrees = agrees && i == n && (n == 16 || !frame);
    Py_XDECREF(frame);
    return agrees;
}

// --- begin and end -----------------------------------------------------
static void at_exit(void) {
    flk_pyframe_close();
    flk_sites_set_reader(NULL);
    // An embedder may start Python again.
    atomic_store(&codes.is_installed, false);
}

void flk_codes_close(void) {
    flk_pyframe_close();
    flk_sites_freeze_all();
    flk_sites_set_reader(NULL);
}

static const char *install(const char *own_prefix) {
    const char *mismatch = flk_pyframe_mismatch();
    if (mismatch)
        return mismatch;
    if (strlen(own_prefix) < PREFIX_MAX)
        strcpy(codes.prefix, own_prefix);
    if (!watch()) {
        PyErr_Clear();
        return "no code watcher is left";
    }
    flk_sites_set_reader(&reader);
    flk_pyframe_open();
    // Should its table be full, atexit has to do.
    (void)Py_AtExit(at_exit);
    if (flk_pyframe_is_open() && walker_agrees())
        return NULL;
    flk_pyframe_close();
    return "frames of this interpreter are not laid out as expected";
}

// Asks for the GIL the first time only: a thread that holds it in another
// interpreter than its first one would wait for itself (3.10, 3.11).
const char *flk_codes_install(const char *own_prefix) {
    if (atomic_load_explicit(&codes.is_installed, memory_order_acquire))
        return codes.problem;
    PyGILState_STATE gil = PyGILState_Ensure();
    if (!atomic_load(&codes.is_installed)) {
        codes.problem = install(own_prefix);
        atomic_store(&codes.is_installed, true);
    }
    PyGILState_Release(gil);
    return codes.problem;
}

// flk_sites keeps the code object from being freed while it is read; the GIL
// keeps the interpreter from being torn down around it. Once all is closed
// nothing is read any more, so that it is not asked for.
bool flk_codes_describe(uint32_t site, flk_site_info *out) {
    if (!flk_pyframe_is_open() || PyGILState_Check())
        return flk_sites_describe(site, out);
    if (!Py_IsInitialized())
        return false;  // it ends, and nobody has called flk_codes_close
    PyGILState_STATE gil = PyGILState_Ensure();
    bool is_known = flk_sites_describe(site, out);
    PyGILState_Release(gil);
    return is_known;
}

#else  // PyPy: no code objects, only names
const char *flk_codes_install(const char *own_prefix) {
    (void)own_prefix;
    return "PyPy has no frames to be read";
}
void flk_codes_close(void) {}
bool flk_codes_is_own(const void *code) { return (void)code, false; }
bool flk_codes_is_seam(const void *code) { return (void)code, false; }
bool flk_codes_describe(uint32_t site, flk_site_info *out) {
    return flk_sites_describe(site, out);
}
#endif

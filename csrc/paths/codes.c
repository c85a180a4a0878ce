// codes.c - reads code objects, watches their death. Contract: paths/codes.h. SPDX-License-Identifier: MIT
#if !defined(FLK_PLAIN_PYTHON)
#include <Python.h>
#endif

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/hash.h"
#include "base/store.h"
#include "paths/codes.h"
#include "paths/pyframe.h"

#if !defined(FLK_PLAIN_PYTHON)
#include <frameobject.h>

// Modules of the package whose paths begin with this, behind the folder of the
// package, call C functions for the other modules.
#define SEAM "_seam/core_"
enum { PREFIX_MAX = PATH_MAX, CODE_UNIT_BYTES = 2 };

static struct {
    atomic_bool is_installed;  // release: everything else is set
    const char *problem;       // NULL: none
    // The folder of the package, and SEAM in it. Constant once installed.
    char prefix[PREFIX_MAX], seam_prefix[PREFIX_MAX + sizeof SEAM];
    // Room for one text that is not ASCII; under the lock of flk_sites.
    char function[FLK_STORE_TEXT_MAX], filename[FLK_STORE_TEXT_MAX];
#if PY_VERSION_HEX < 0x030C0000
    destructor dealloc;  // of PyCode_Type; under the GIL
#endif
} codes;

// --- texts -------------------------------------------------------------
// Surrogates are encoded like any other character. Python represents the
// undecodable bytes of a file name by lone surrogates.
static size_t utf8_encode(Py_UCS4 c, char out[4]) {
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    FLK_ASSERT(c < 0x110000);
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

// The text in UTF-8: the text itself if it is ASCII, else as much as fits into
// `buffer`.
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
    FLK_ASSERT(prefix != NULL);
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
    FLK_ASSERT(address && function && filename);
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

// Both functions only decode the line table. PyCode_Addr2Line of 3.12 and later
// does more while a tracer is active, so it is not used there.
static void read_line(const void *address, int32_t offset, flk_site_info *out) {
    FLK_ASSERT(address && out);
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
        return;  // before the first instruction: the line of `def`, no column
    out->column = column;
#else
    out->line = PyCode_Addr2Line(code, offset);
#endif
}

// Offsets of two code objects with the same first line and the same line table
// mean the same lines.
static uint64_t lines_hash_of(const PyCodeObject *code) {
    PyObject *table = code->co_linetable;
    int32_t first_line = code->co_firstlineno;
    uint64_t hash =
        flk_hash_bytes(&first_line, sizeof first_line, FLK_HASH_START);
    if (!table || !PyBytes_Check(table))
        return hash;
    return flk_hash_bytes(PyBytes_AS_STRING(table),
                          (size_t)PyBytes_GET_SIZE(table), hash);
}

static bool identify(const void *address, flk_code_identity *out) {
    FLK_ASSERT(address && out);
    const void *state = flk_pyframe_hold();
    if (!state)
        return false;
    const PyCodeObject *code = address;
    read_names(address, &out->function, &out->filename);
    out->lines_hash = lines_hash_of(code);
    out->is_own = has_prefix(code->co_filename, codes.prefix);
    flk_pyframe_release(state);
    return true;
}

static const flk_sites_reader reader = {identify, read_names, read_line};

bool flk_codes_is_seam(const void *code) {
    FLK_ASSERT(code != NULL);
    const void *state = flk_pyframe_hold();
    if (!state)
        return false;
    bool is_seam = has_prefix(((const PyCodeObject *)code)->co_filename,
                              codes.seam_prefix);
    flk_pyframe_release(state);
    return is_seam;
}

// --- death -------------------------------------------------------------
#if PY_VERSION_HEX >= 0x030C0000
// Called before any part of the code object is released; no frame runs it.
static int code_event(PyCodeEvent event, PyCodeObject *code) {
    int saved = errno;
    if (event == PY_CODE_EVENT_DESTROY)
        flk_sites_retire(code);
    errno = saved;
    return 0;
}

static bool watch(void) { return PyCode_AddWatcher(code_event) >= 0; }
#else
// In 3.11 a frame that is being cleared may still refer to its code object while
// that is freed and the free is recorded. So the address is retired after the
// free. It cannot have been reused by then, because the GIL is held throughout.
static void code_dealloc(PyObject *code) {
    FLK_ASSERT(PyGILState_Check());
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

// --- a check of the walker ---------------------------------------------
static bool is_frame(PyFrameObject *frame, const flk_raw_frame *raw) {
    FLK_ASSERT(frame && raw->code);
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool is_same = raw->code == code;
#if PY_VERSION_HEX >= 0x030B0000
    is_same = is_same && PyFrame_GetLasti(frame) == raw->offset;
#endif
    Py_DECREF(code);
    return is_same;
}

// Compares the frames of this thread with those of the public functions.
static bool walker_agrees(void) {
    FLK_ASSERT(PyGILState_Check());
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
    // A program that embeds Python may initialise it again.
    atomic_store(&codes.is_installed, false);
}

void flk_codes_close(void) {
    flk_pyframe_close();
    flk_sites_freeze_all();
    flk_sites_set_reader(NULL);
}

static const char *install(const char *own_prefix) {
    FLK_ASSERT(PyGILState_Check());
    const char *mismatch = flk_pyframe_mismatch();
    if (mismatch)
        return mismatch;
    if (strlen(own_prefix) < PREFIX_MAX) {
        strcpy(codes.prefix, own_prefix);
        strcat(strcpy(codes.seam_prefix, own_prefix), SEAM);
    }
    if (!watch()) {
        PyErr_Clear();
        return "no code watcher is left";
    }
    flk_sites_set_reader(&reader);
    flk_pyframe_open();
    // If the table of Py_AtExit is full, the atexit module must suffice.
    (void)Py_AtExit(at_exit);
    if (!flk_pyframe_walks())
        return "the frames of this version of CPython are not known";
    if (walker_agrees())
        return NULL;
    flk_pyframe_close_frames();
    return "frames of this interpreter are not laid out as expected";
}

// Takes the GIL for the first call only: in 3.10 and 3.11 a thread that holds
// it in an interpreter other than its first one would wait for itself.
const char *flk_codes_install(const char *own_prefix) {
    FLK_ASSERT(own_prefix != NULL);
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

// The lock of flk_sites keeps the code object from being freed while it is read.
// The GIL keeps the interpreter from being finalised meanwhile. When the walker
// is closed no code object is read, so the GIL is not needed.
bool flk_codes_describe(uint32_t site, flk_site_info *out) {
    FLK_ASSERT(out != NULL);
    if (!flk_pyframe_is_open() || PyGILState_Check())
        return flk_sites_describe(site, out);
    if (!Py_IsInitialized())
        return false;  // finalising, and flk_codes_close was not called
    PyGILState_STATE gil = PyGILState_Ensure();
    bool is_known = flk_sites_describe(site, out);
    PyGILState_Release(gil);
    return is_known;
}

#else  // no code objects, only named codes
const char *flk_codes_install(const char *own_prefix) {
    (void)own_prefix;
    return "this interpreter has no frames that C can read";
}
void flk_codes_close(void) {}
bool flk_codes_is_seam(const void *code) { return (void)code, false; }
bool flk_codes_describe(uint32_t site, flk_site_info *out) {
    return flk_sites_describe(site, out);
}
#endif

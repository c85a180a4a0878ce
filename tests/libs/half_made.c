// Calls malloc while a frame of Python is half made, as a signal handler may
// find it. Compiled with the headers of the interpreter.
#define Py_BUILD_CORE_MODULE 1
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_interpframe.h"
#else
#include "internal/pycore_frame.h"
#endif

enum { PAGE = 4096, SIZE = 56 };
enum { NONSENSE, UNMAPPED, MISALIGNED, EMPTY, CODE_UNMAPPED, CODE_OTHER, GONE };

// What the frames that are not set may look like.
static void *garbage(int kind) {
    static _Alignas(16) char page[PAGE];
    void *unmapped = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANON, -1, 0);
    munmap(unmapped, PAGE);
    memset(page, 0, PAGE);
    switch (kind) {
    case NONSENSE:
        return (void *)(uintptr_t)0x5A5A5A5A5A5A5A58;
    case UNMAPPED:
        return unmapped;
    case MISALIGNED:
        return page + 3;
    case CODE_UNMAPPED:
        *(void **)page = unmapped;
        return page;
    case CODE_OTHER:
        *(void **)page = Py_None;
        return page;
    case GONE:  // the memory behind the last frame
        return PyGILState_GetThisThreadState()->datastack_top;
    }
    return page;
}

#if PY_VERSION_HEX < 0x030D0000
#define FRAME(thread) ((thread)->cframe->current_frame)
#else
#define FRAME(thread) ((thread)->current_frame)
#endif

static void *take_below(struct _PyInterpreterFrame *frame) {
    PyThreadState *thread = PyGILState_GetThisThreadState();
    struct _PyInterpreterFrame *before = FRAME(thread);
    FRAME(thread) = frame;
    void *block = malloc(SIZE);
    FRAME(thread) = before;
    return block;
}

// The link to the innermost frame is not set.
uintptr_t take_without_first(int kind) {
    return (uintptr_t)take_below(garbage(kind));
}

// The link of the innermost frame to the next one is not set.
uintptr_t take_without_link(int kind) {
    _PyInterpreterFrame frame;
    memset(&frame, 0, sizeof frame);
    memcpy(&frame, FRAME(PyGILState_GetThisThreadState()),
           offsetof(_PyInterpreterFrame, localsplus));
    frame.previous = garbage(kind);
    return (uintptr_t)take_below(&frame);
}

uintptr_t take(void) {
    return (uintptr_t)malloc(SIZE);
}

// pycontext.h - reads a context variable of this thread without the GIL.  SPDX-License-Identifier: MIT
// Keeps:   the variable, its hash, and where its values hold a number.
// Cost:    flk_pycontext_look: three loads of the thread state. flk_pycontext_find: one node of the map for each 5 bits
//          of the hash that other variables share, mostly one or two.
// Callers: any thread; the GIL may be released. A signal handler too. CPython only; elsewhere nothing is readable.
// Fails:   flk_pycontext_find returns false before flk_pycontext_install, and if the layout is not the expected one.
// Invariant: only the calling thread's own state is read, while paths/pyframe.h keeps the interpreter from ending. The
//            state refers to its context, the context to its map, the map to its nodes and values; maps are never
//            changed. Only the thread itself replaces its context, or the map of its context. So whatever is read is
//            alive, also where a signal handler interrupts the replacement: the new reference is stored before the
//            old one is dropped.
// Source:  Python/hamt.c, Python/context.c; the layouts are the same in 3.10 to 3.15.
#ifndef FLK_PYCONTEXT_H
#define FLK_PYCONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Identifies the current context of a thread. The variable does not change while
// the mark stays the same, unless this thread sets it: each switch to another
// context raises the version, and no two thread states have the same id.
typedef struct flk_context_mark {
    const void *context;  // NULL: no variable was set in it
    uint64_t version;
    uint64_t state_id;  // of the thread state; 0 = no context was seen
} flk_context_mark;

// False if the thread has no thread state of this interpreter, and after
// flk_pyframe_close. `is_attached`: the thread holds the GIL.
bool flk_pycontext_look(flk_context_mark *out, bool is_attached);
// False: contexts of this interpreter are not read, in no thread.
bool flk_pycontext_is_readable(void);

static inline bool flk_pycontext_is_same(const flk_context_mark *one,
                                         const flk_context_mark *other) {
    return one->context == other->context && one->version == other->version &&
           one->state_id == other->state_id;
}

typedef struct flk_context_value {
    bool is_set;      // the variable has a value that is not None
    bool is_entered;  // by Context.run or a task; else it is that of a thread
                      // or a greenlet
    uint32_t number;  // that the value holds, if it is set
} flk_context_value;
// Reads the variable in the current context. False if it cannot be read, and if
// there is no context.
bool flk_pycontext_find(flk_context_value *out, bool is_attached);

// Sets the variable, a ContextVar of this interpreter whose values are None or
// objects with a uint32_t at an offset; checks the reading of contexts. Offset 0:
// the values are bytes objects that begin with it. NULL, or a text that says why
// contexts cannot be read.
const char *flk_pycontext_install(void *variable, size_t number_offset);

#endif

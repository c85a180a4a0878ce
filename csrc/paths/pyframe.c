// pyframe.c - walks the frame chain; opens and closes it. Contract: paths/pyframe.h. SPDX-License-Identifier: MIT
#include "paths/pyframe_layout.h"
#include "paths/pyframe_trust.h"

#if defined(HAS_THREAD_STATES)
#include <stdio.h>
#include <string.h>

// --- threads that are reading -------------------------------------------
typedef struct slot {
    // Set once, by the first thread state that uses the slot. Relaxed: a thread
    // compares it with its own state only, which it stored itself, or which an
    // ended thread with a state at the same address stored.
    _Alignas(64) _Atomic(const PyThreadState *) owner;
    atomic_bool inside;  // the owner is reading; written only by the owner
    atomic_int guests;   // other threads that are reading
#if defined(HAS_WALKER)
    flk_stack_part part;  // of the owner
#endif
} slot;

// The interpreter with thread states, or frames, that may be read. NULL: none.
// Readers load it relaxed: see enter_at.
typedef _Atomic(const PyInterpreterState *) opened;

static struct {
    opened states, frames;
    slot slots[FLK_PYFRAME_SLOTS];
} door;

static slot *slot_of(const PyThreadState *tstate) {
    FLK_ASSERT(tstate != NULL);
    uint64_t key = (uint64_t)(uintptr_t)tstate;
    key *= UINT64_C(0x9E3779B97F4A7C15);
    return &door.slots[(key >> 32) % FLK_PYFRAME_SLOTS];
}

// True if the slot had no owner. Otherwise the thread becomes a guest.
static FLK_NOINLINE bool become_owner(slot *s, const PyThreadState *tstate) {
    FLK_ASSERT(tstate != NULL);
    const PyThreadState *none = NULL;
    if (atomic_compare_exchange_strong(&s->owner, &none, tstate))
        return true;
    atomic_fetch_add(&s->guests, 1);
    return false;
}

static inline bool is_owner(const slot *s, const PyThreadState *tstate) {
    return atomic_load_explicit(&s->owner, memory_order_relaxed) == tstate;
}

// A reader first stores that it is inside, and then loads whether the door is
// open. A fence that keeps this order would cost 6 ns here. Instead
// flk_pyframe_close executes a fence in all threads: after it, each reader has
// either loaded "closed" or is visible as being inside.
static inline bool enter_at(slot *s, const PyThreadState *tstate,
                            const opened *what) {
    FLK_ASSERT(tstate && what);
    if (FLK_LIKELY(is_owner(s, tstate)) || become_owner(s, tstate))
        atomic_store_explicit(&s->inside, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    const PyInterpreterState *open =
        atomic_load_explicit(what, memory_order_relaxed);
    return open && tstate->interp == open;
}

static inline void leave_at(slot *s, const PyThreadState *tstate) {
    FLK_ASSERT(atomic_load(&s->owner) != NULL);
    if (FLK_LIKELY(is_owner(s, tstate)))
        atomic_store_explicit(&s->inside, false, memory_order_release);
    else
        atomic_fetch_sub(&s->guests, 1);
}

#define enter(tstate, what) enter_at(slot_of(tstate), tstate, what)
#define leave(tstate) leave_at(slot_of(tstate), tstate)

// A reader never waits, so this is short. But a debugger may have stopped its
// thread, and the process must be able to end: hence the limit.
static void wait_until_empty(const slot *s, int *naps_left) {
    FLK_ASSERT(*naps_left >= 0);
    while ((atomic_load(&s->inside) || atomic_load(&s->guests) > 0) &&
           *naps_left > 0) {
        --*naps_left;
        flk_platform_pause();
    }
}

static void close_one(opened *what) {
    FLK_ASSERT(what != NULL);
    if (!atomic_exchange(what, NULL))
        return;
    flk_platform_fence_threads();
    int naps_left = 1000;  // of 1 ms
    for (int i = 0; i < FLK_PYFRAME_SLOTS; i++)
        wait_until_empty(&door.slots[i], &naps_left);
}

void flk_pyframe_close_frames(void) { close_one(&door.frames); }

void flk_pyframe_close(void) {
    close_one(&door.frames);
    close_one(&door.states);
}

void flk_pyframe_open(void) {
    FLK_ASSERT(flk_pyframe_mismatch() == NULL);
    atomic_store(&door.states, PyInterpreterState_Get());
#if defined(HAS_WALKER)
    atomic_store(&door.frames, PyInterpreterState_Get());
#endif
}

bool flk_pyframe_is_open(void) { return atomic_load(&door.states) != NULL; }
bool flk_pyframe_walks(void) { return atomic_load(&door.frames) != NULL; }

void flk_pyframe_forked(void) {
    for (int i = 0; i < FLK_PYFRAME_SLOTS; i++) {
        atomic_store(&door.slots[i].inside, false);
        atomic_store(&door.slots[i].guests, 0);
    }
}

// _PyThreadState_UncheckedGet() would be wrong: without the GIL it returns the
// state of another thread (3.10, 3.11) or NULL (3.12 and later).
#define THIS_THREAD_STATE() PyGILState_GetThisThreadState()

const void *flk_pyframe_hold(void) {
    const PyThreadState *tstate = THIS_THREAD_STATE();
    if (!tstate)
        return NULL;
    if (FLK_LIKELY(enter(tstate, &door.states)))
        return tstate;
    leave(tstate);
    return NULL;
}

void flk_pyframe_release(const void *thread_state) {
    FLK_ASSERT(thread_state == THIS_THREAD_STATE());
    leave((const PyThreadState *)thread_state);
}

int flk_pyframe_attach(void) { return (int)PyGILState_Ensure(); }

void flk_pyframe_detach(int attached) {
    PyGILState_Release((PyGILState_STATE)attached);
}

#if defined(HAS_WALKER)
// --- half made frames ----------------------------------------------------
static atomic_ullong half_made_count;  // relaxed: a figure

uint64_t flk_pyframe_cut_count(void) {
    return atomic_load_explicit(&half_made_count, memory_order_relaxed);
}

void flk_pyframe_cut_clear(void) { atomic_store(&half_made_count, 0); }

static FLK_NOINLINE void count_cut(void) {
    atomic_fetch_add_explicit(&half_made_count, 1, memory_order_relaxed);
}

#if PY_VERSION_HEX >= 0x030B0000
static flk_stack_part *part_of(const PyThreadState *tstate) {
    slot *s = slot_of(tstate);
    return is_owner(s, tstate) ? &s->part : NULL;
}
#endif

// --- reading -----------------------------------------------------------
static bool may_be_first(flk_way *way, const frame_type *frame) {
    return is_first_usual(way->thread_state, frame) || may_be_frame(way, frame);
}

static FLK_NOINLINE bool begin_elsewhere(const flk_frame_reader *reader) {
    flk_way way = {.thread_state = reader->thread_state};
    if (may_be_first(&way, reader->frame))
        return true;
    leave_at(reader->slot, reader->thread_state);
    count_cut();
    return false;
}

bool flk_pyframe_begin(flk_frame_reader *reader, bool is_attached) {
    FLK_ASSERT(reader != NULL);
    const PyThreadState *tstate =
        is_attached ? PyThreadState_Get() : THIS_THREAD_STATE();
    if (FLK_UNLIKELY(!tstate))
        return false;
    slot *s = slot_of(tstate);
    if (FLK_UNLIKELY(!enter_at(s, tstate, &door.frames))) {
        leave_at(s, tstate);
        return false;
    }
    reader->thread_state = tstate;
    reader->slot = s;
    reader->frame = FIRST_FRAME(tstate);
    if (FLK_UNLIKELY(!is_first_usual(tstate, reader->frame)) &&
        !begin_elsewhere(reader))
        return false;
    reader->mark = FLK_LIKELY(reader->frame != NULL)
                       ? mark_of((const frame_type *)reader->frame)
                       : FLK_MARK_END;
    return true;
}

void flk_pyframe_end(const flk_frame_reader *reader) {
    FLK_ASSERT(reader->slot && reader->thread_state);
    leave_at(reader->slot, reader->thread_state);
}

// Continues flk_pyframe_collect with a frame that is not in the newest chunk.
static FLK_NOINLINE size_t collect_elsewhere(const flk_frame_reader *reader,
                                             const frame_type *frame,
                                             flk_frame_seen *seen,
                                             size_t seen_max) {
    FLK_ASSERT(frame && seen_max > 0);
    flk_way way = {.thread_state = reader->thread_state};
    size_t count = 0;
    for (; frame && count < seen_max; frame = NEXT_FRAME(frame)) {
        if (!may_be_frame(&way, frame)) {
            seen[count++] = (flk_frame_seen){FLK_MARK_NONE, NULL};
            return count;
        }
        seen[count++] = (flk_frame_seen){mark_of(frame), NEXT_FRAME(frame)};
    }
    if (count < seen_max)
        seen[count++] = (flk_frame_seen){FLK_MARK_END, NULL};
    return count;
}

static FLK_NOINLINE flk_frame_mark mark_elsewhere(const PyThreadState *tstate,
                                                  const frame_type *frame) {
    flk_way way = {.thread_state = tstate};
    if (!frame)
        return FLK_MARK_END;
    return may_be_frame(&way, frame) ? mark_of(frame) : FLK_MARK_NONE;
}

flk_frame_mark flk_pyframe_second_mark(const flk_frame_reader *reader) {
    FLK_ASSERT(reader->frame != NULL);
    const frame_type *frame = reader->frame, *next = NEXT_FRAME(frame);
    return FLK_LIKELY(is_in_newest_chunk(reader->thread_state, next))
               ? mark_of(next)
               : mark_elsewhere(reader->thread_state, next);
}

size_t flk_pyframe_collect(const flk_frame_reader *reader, flk_frame_seen *seen,
                           size_t seen_max) {
    FLK_ASSERT(seen && seen_max > 0 && reader->frame);
    const frame_type *frame = reader->frame;
    size_t count = 0;
    do {
        const frame_type *next = NEXT_FRAME(frame);
        seen[count++] = (flk_frame_seen){mark_of(frame), next};
        if (count == seen_max)
            return count;
        frame = next;
    } while (FLK_LIKELY(is_in_newest_chunk(reader->thread_state, frame)));
    if (frame)
        return count +
               collect_elsewhere(reader, frame, seen + count, seen_max - count);
    seen[count++] = (flk_frame_seen){FLK_MARK_END, NULL};
    return count;
}

typedef struct comparison {
    flk_frame_seen *seen, *end;
    bool is_whole;  // the chain must end at `end`
} comparison;

// Continues flk_pyframe_matches with a frame whose link is not the guessed one.
static FLK_NOINLINE bool matches_elsewhere(const PyThreadState *tstate,
                                           const frame_type *frame,
                                           comparison c) {
    FLK_ASSERT(frame && c.seen < c.end);
    flk_way way = {.thread_state = tstate};
    for (; c.seen < c.end; c.seen++) {
        if (!frame || mark_of(frame) != c.seen->mark)
            return false;
        const frame_type *next = NEXT_FRAME(frame);
        if (next && next != c.seen->next && !may_be_frame(&way, next))
            return false;
        if (next)
            c.seen->next = next;
        frame = next;
    }
    return !c.is_whole || !frame;
}

typedef enum likeness { AS_SEEN, OTHER_MARK, OTHER_LINK } likeness;

// Compares a frame with what was seen, and continues with the guess. The
// processor does so while the load that confirms the guess is under way. The
// compiler must not replace the guess by the loaded value, although they are
// equal. A guess is NULL only at the end of the chain, and so is a confirmed one.
static FLK_HOT likeness compare(const frame_type **frame,
                                const flk_frame_seen *seen) {
    const frame_type *now = *frame, *next = seen->next;
    FLK_OPAQUE(next);
    if (FLK_UNLIKELY(mark_of(now) != seen->mark))
        return OTHER_MARK;
    *frame = next;
    return FLK_LIKELY(seen->next == NEXT_FRAME(now)) ? AS_SEEN : OTHER_LINK;
}

// Four frames a turn take half as many instructions as one does.
static FLK_HOT likeness compare_all(const frame_type **frame,
                                    const flk_frame_seen *seen,
                                    const flk_frame_seen *end) {
    likeness found = AS_SEEN;
    for (; end - seen >= 4; seen += 4)
        if (FLK_UNLIKELY((found = compare(frame, seen)) != AS_SEEN) ||
            FLK_UNLIKELY((found = compare(frame, seen + 1)) != AS_SEEN) ||
            FLK_UNLIKELY((found = compare(frame, seen + 2)) != AS_SEEN) ||
            FLK_UNLIKELY((found = compare(frame, seen + 3)) != AS_SEEN))
            return found;
    for (; seen < end && FLK_LIKELY(found == AS_SEEN); seen++)
        found = compare(frame, seen);
    return found;
}

bool flk_pyframe_matches(const flk_frame_reader *reader, flk_frame_seen *seen,
                         size_t count) {
    FLK_ASSERT(reader->frame && count > 0);
    const frame_type *frame = reader->frame;
    bool is_whole = seen[count - 1].mark == FLK_MARK_END;
    flk_frame_seen *end = seen + count - is_whole;
    likeness found = compare_all(&frame, seen, end);
    if (FLK_LIKELY(found == AS_SEEN))
        return !is_whole || !frame;
    // No place is kept above, so this begins with the first frame again.
    return found == OTHER_LINK &&
           matches_elsewhere(reader->thread_state, reader->frame,
                             (comparison){seen, end, is_whole});
}

// --- walking -------------------------------------------------------------
// Frames of C lie between those of Python, a few at a time. More means that the
// chain is none.
#define STEPS_MAX(frames_max) (8 * (uint32_t)(frames_max) + 64)

typedef struct frame_walk {
    flk_raw_frame *out, *end;
    uint32_t steps_max;
    bool is_lasting;  // no frame was left out whose code object can die
    bool is_cut;      // a frame was half made
} frame_walk;

// Reads one frame. One whose code object is none is left out.
static void walk_frame(frame_walk *w, const frame_type *frame, uint32_t place) {
    FLK_ASSERT(frame && w->out < w->end);
    bool is_dying = false;
    if (FLK_UNLIKELY(!is_code_of(frame, &is_dying))) {
        w->is_lasting = false;
        w->is_cut = true;
    } else if (FLK_LIKELY(read_frame(frame, is_dying, w->out))) {
        w->out++->place = place;
    } else if (!IS_OF_C(frame)) {
        w->is_lasting = false;
    }
}

static void walk_all(frame_walk *w, const PyThreadState *tstate) {
    FLK_ASSERT(tstate && w->out < w->end);
    flk_way way = {.thread_state = tstate};
    const frame_type *frame = FIRST_FRAME(tstate);
    w->is_cut = !may_be_first(&way, frame);
    for (uint32_t place = 0; frame && w->out < w->end && !w->is_cut; place++) {
        walk_frame(w, frame, place);
        frame = NEXT_FRAME(frame);
        w->is_cut |= frame && w->out < w->end &&
                     (place >= w->steps_max || !may_be_frame(&way, frame));
    }
}

size_t flk_pyframe_walk(flk_raw_frame *frames, size_t frames_max,
                        bool *is_lasting) {
    FLK_ASSERT(frames && frames_max > 0);
    PyThreadState *tstate = THIS_THREAD_STATE();
    if (FLK_UNLIKELY(!tstate))
        return 0;
    frame_walk w = {frames, frames + frames_max, STEPS_MAX(frames_max), true,
                    false};
    if (FLK_LIKELY(enter(tstate, &door.frames)))
        walk_all(&w, tstate);
    leave(tstate);
    if (FLK_UNLIKELY(w.is_cut))
        count_cut();
    if (is_lasting)
        *is_lasting = w.is_lasting && !w.is_cut;
    FLK_ASSERT(w.out <= w.end);
    return (size_t)(w.out - frames);
}

bool flk_pyframe_innermost(flk_raw_frame *out) {
    FLK_ASSERT(out && PyGILState_Check());
    const PyThreadState *tstate = PyThreadState_Get();
    bool is_found = false;
    if (FLK_LIKELY(enter(tstate, &door.frames))) {
        const frame_type *frame = FIRST_FRAME(tstate);
        while (frame && !read_frame(frame, false, out))
            frame = NEXT_FRAME(frame);
        is_found = frame != NULL;
    }
    leave(tstate);
    return is_found;
}

#else
// The public functions make objects, so they are used only where that is allowed.
bool flk_pyframe_innermost(flk_raw_frame *out) {
    FLK_ASSERT(out && PyGILState_Check());
    PyFrameObject *frame = PyEval_GetFrame();
    if (!frame)
        return false;
    PyCodeObject *code = PyFrame_GetCode(frame);
    *out = (flk_raw_frame){.code = code, .offset = -1};
    Py_DECREF(code);  // the frame holds it
    return true;
}
#endif

// --- versions ----------------------------------------------------------
#define COMPILED_VERSION \
    Py_STRINGIFY(PY_MAJOR_VERSION) "." Py_STRINGIFY(PY_MINOR_VERSION) "."
#if defined(Py_GIL_DISABLED)
#define COMPILED_FREE_THREADED true
#else
#define COMPILED_FREE_THREADED false
#endif

const char *flk_pyframe_mismatch(void) {
    static char text[160];
    const char *running = Py_GetVersion();  // "3.13.0 (main, ..."
    bool is_free_threaded = strstr(running, "free-threading") != NULL;
    if (strncmp(running, COMPILED_VERSION, strlen(COMPILED_VERSION)) == 0 &&
        is_free_threaded == COMPILED_FREE_THREADED)
        return NULL;
    snprintf(text, sizeof text,
             "compiled for CPython " COMPILED_VERSION "x%s, but this is %.*s%s",
             COMPILED_FREE_THREADED ? " free-threading" : "",
             (int)strcspn(running, " "), running,
             is_free_threaded ? " free-threading" : "");
    return text;
}

#else  // no thread states
const void *flk_pyframe_hold(void) { return NULL; }
void flk_pyframe_release(const void *thread_state) { (void)thread_state; }
bool flk_pyframe_innermost(flk_raw_frame *out) {
    (void)out;
    return false;
}
int flk_pyframe_attach(void) { return 0; }
void flk_pyframe_detach(int attached) { (void)attached; }
void flk_pyframe_open(void) {}
void flk_pyframe_close(void) {}
void flk_pyframe_close_frames(void) {}
bool flk_pyframe_is_open(void) { return false; }
bool flk_pyframe_walks(void) { return false; }
void flk_pyframe_forked(void) {}
const char *flk_pyframe_mismatch(void) { return NULL; }
#endif

#if !defined(HAS_WALKER)  // no frames
bool flk_pyframe_begin(flk_frame_reader *reader, bool is_attached) {
    (void)reader, (void)is_attached;
    return false;
}
void flk_pyframe_end(const flk_frame_reader *reader) { (void)reader; }
flk_frame_mark flk_pyframe_second_mark(const flk_frame_reader *reader) {
    (void)reader;
    return FLK_MARK_END;
}
size_t flk_pyframe_collect(const flk_frame_reader *reader, flk_frame_seen *seen,
                           size_t seen_max) {
    (void)reader, (void)seen, (void)seen_max;
    return 0;
}
bool flk_pyframe_matches(const flk_frame_reader *reader, flk_frame_seen *seen,
                         size_t count) {
    (void)reader, (void)seen, (void)count;
    return false;
}
size_t flk_pyframe_walk(flk_raw_frame *frames, size_t frames_max,
                        bool *is_lasting) {
    (void)frames, (void)frames_max, (void)is_lasting;
    return 0;
}
uint64_t flk_pyframe_cut_count(void) { return 0; }
void flk_pyframe_cut_clear(void) {}
#endif

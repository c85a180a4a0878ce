// results.c - results and objects of the C library. Contract: hooks/results.h.   SPDX-License-Identifier: MIT
#include "hooks/results.h"

#ifdef FLK_HAS_ELF
#include <glob.h>
#include <string.h>
#include <wchar.h>
#include <wordexp.h>

#include "base/config.h"
#include "hooks/bodies.h"
#include "hooks/libc_objects.h"
#include "hooks/report.h"
#include "hooks/returned.h"

static flk_sizes kind_of(uint32_t stub) {
    return flk_functions_info[flk_stub_table_function(stub)].sizes;
}

static bool is_recorded(uint32_t stub, const void *caller) {
    return FLK_UNLIKELY(flk_stub_table_state() == FLK_HOOKS_ON) &&
           flk_bodies_is_traced(stub, caller);
}

// --- the mark of a running function ------------------------------------
// Such a call may stand inside another one: in a callback of the traced
// object (scandir, a stream's cookie). The notes of the outer one are kept.
typedef struct marked {
    flk_marks *marks;
    bool is_inner;
    flk_returned outer;
} marked;

static void begin_notes(marked *m, uint16_t type, uintptr_t here) {
    m->marks = flk_platform_thread_marks();
    flk_returned *returned = &m->marks->returned;
    FLK_ASSERT(type != 0 && here != 0);
    if (FLK_UNLIKELY(returned->frame))
        flk_returned_drop_left_behind(m->marks, here);
    m->is_inner = returned->frame != 0;
    if (FLK_UNLIKELY(m->is_inner))
        m->outer = *returned;
    returned->type = type;
    returned->note_count = 0;
    returned->frame = here;
}

static void end_notes(const marked *m) {
    flk_returned *returned = &m->marks->returned;
    returned->type = returned->note_count = 0;
    returned->frame = 0;
    if (FLK_UNLIKELY(m->is_inner))
        *returned = m->outer;
}

// --- recording ---------------------------------------------------------
static void record(uint32_t stub, uint32_t session, uintptr_t block,
                   uint64_t size_bytes) {
    FLK_ASSERT(block != 0);
    flk_report_made(session, FLK_LAYER_HEAP, block, size_bytes,
                    flk_stub_table_type(stub));
}

// A buffer that the caller passed in was not allocated here, and is not
// recorded. With more notes than there is room for the block may be missed.
static void record_noted(const marked *m, uint32_t stub, uint32_t session,
                         uintptr_t block) {
    const flk_returned *returned = &m->marks->returned;
    uint64_t size_bytes;
    if (!block)
        return;
    if (flk_returned_find(returned, block, &size_bytes))
        flk_report_made(session, FLK_LAYER_HEAP, block, size_bytes,
                        flk_stub_table_type(stub));
    else if (returned->note_count > FLK_RETURNED_MAX)
        flk_report_count(FLK_HOOK_RETURNED_LOST);
}

// --- results -------------------------------------------------------------
static uintptr_t pointed(flk_sizes where, uintptr_t a, uintptr_t b,
                         uintptr_t c) {
    uintptr_t variable = where == FLK_SIZES_POINTED     ? a
                         : where == FLK_SIZES_POINTED_2 ? b
                         : where == FLK_SIZES_POINTED_3 ? c
                                                        : 0;
    return variable ? *(const uintptr_t *)variable : 0;
}

uintptr_t flk_results_return(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                             uintptr_t e, uint32_t stub, const void *caller) {
    flk_function_of_6 original =
        (flk_function_of_6)flk_stub_table_original(stub);
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(!is_recorded(stub, caller)))
        return original(a, b, c, d, e, 0);
    marked m;
    flk_sizes where = kind_of(stub);
    begin_notes(&m, flk_stub_table_type(stub), FLK_STACK_HERE);
    uintptr_t result = original(a, b, c, d, e, 0);
    uintptr_t block =
        where == FLK_SIZES_RETURNED ? result : pointed(where, a, b, c);
    record_noted(&m, stub, session, block);
    end_notes(&m);
    return result;
}

typedef FILE *(*open_cookie)(void *, const char *, cookie_io_functions_t);

FILE *flk_results_cookie(void *cookie, const char *mode,
                         cookie_io_functions_t io, uint32_t stub,
                         const void *caller) {
    open_cookie original = (open_cookie)flk_stub_table_original(stub);
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(!is_recorded(stub, caller)))
        return original(cookie, mode, io);
    marked m;
    begin_notes(&m, flk_stub_table_type(stub), FLK_STACK_HERE);
    FILE *file = original(cookie, mode, io);
    record_noted(&m, stub, session, (uintptr_t)file);
    end_notes(&m);
    return file;
}

uintptr_t flk_results_list(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                           uintptr_t e, uint32_t stub, const void *caller) {
    flk_function_of_6 original =
        (flk_function_of_6)flk_stub_table_original(stub);
    uint32_t session = flk_stub_table_session();
    if (!is_recorded(stub, caller))
        return original(a, b, c, d, e, 0);
    marked m;
    begin_notes(&m, flk_stub_table_type(stub), FLK_STACK_HERE);
    uintptr_t result = original(a, b, c, d, e, 0);
    end_notes(&m);
    int count = (int)result;
    if (count < 0)
        return result;
    uintptr_t *list =
        *(uintptr_t **)(kind_of(stub) == FLK_SIZES_SECOND ? b : c);
    if (list)
        record(stub, session, (uintptr_t)list,
               flk_libc_objects_list_bytes((uint64_t)count));
    for (int i = 0; i < count; i++)
        record(stub, session, list[i], flk_libc_objects_entry_bytes(list[i]));
    return result;
}

typedef struct scanned {
    uint32_t stub, session;
    const flk_returned *notes;
} scanned;

static void record_scanned(uintptr_t block, uint64_t bytes, void *context) {
    const scanned *s = context;
    flk_returned_find(s->notes, block, &bytes);
    record(s->stub, s->session, block, bytes);
}

// A wide format as a narrow one: what matters in it is ASCII. False: it makes
// no blocks, or is too long.
static bool narrow(const wchar_t *format, char *out, size_t room) {
    FLK_ASSERT(format != NULL && room > 0);
    bool has_m = false;
    for (size_t i = 0; i < room; i++) {
        out[i] = (char)(format[i] < 128 ? format[i] : '?');
        has_m |= format[i] == L'm';
        if (!format[i])
            return has_m;
    }
    return false;
}

static bool is_wide(flk_sizes kind) {
    return kind == FLK_SIZES_WIDE_FIRST || kind == FLK_SIZES_WIDE_SECOND;
}

// Whether the format may make blocks; then `*format` is a narrow one.
static bool makes_blocks(flk_sizes kind, const char **format, char *copy,
                         size_t room) {
    if (!is_wide(kind))
        return strchr(*format, 'm') != NULL;
    const wchar_t *wide = (const wchar_t *)(uintptr_t)*format;
    *format = copy;
    return narrow(wide, copy, room);
}

uintptr_t flk_results_scan(uintptr_t a, uintptr_t b, uintptr_t c, uint32_t stub,
                           const void *caller) {
    flk_function_of_3 original =
        (flk_function_of_3)flk_stub_table_original(stub);
    flk_sizes kind = kind_of(stub);
    bool has_source = kind == FLK_SIZES_SECOND || kind == FLK_SIZES_WIDE_SECOND;
    const char *format = (const char *)(has_source ? b : a);
    va_list *list = (va_list *)(has_source ? c : b);
    uint32_t session = flk_stub_table_session();
    char copy[FLK_WIDE_FORMAT_MAX];
    if (!is_recorded(stub, caller) ||
        !makes_blocks(kind, &format, copy, sizeof copy))
        return original(a, b, c);
    va_list before;
    va_copy(before, *list);
    marked m;
    begin_notes(&m, flk_stub_table_type(stub), FLK_STACK_HERE);
    uintptr_t result = original(a, b, c);
    scanned s = {stub, session, &m.marks->returned};
    flk_libc_objects_scanned(format, &before, (int)result, record_scanned, &s);
    end_notes(&m);
    va_end(before);
    return result;
}

// --- objects -------------------------------------------------------------
typedef struct libc_object {
    flk_sizes kind;
    uintptr_t structure;  // 0: the result is the object
    uintptr_t before;     // the object that this one replaces, or 0
} libc_object;

// The flag says whether the structure holds an earlier object.
static libc_object libc_object_in(flk_sizes kind, uintptr_t structure,
                                  bool is_filled) {
    libc_object o = {.kind = kind, .structure = structure};
    if (is_filled && structure)
        o.before = flk_libc_objects_block(kind, structure);
    return o;
}

static libc_object libc_object_of(flk_sizes kind, uintptr_t a, uintptr_t b,
                                  uintptr_t c, uintptr_t d) {
    switch (kind) {
    case FLK_SIZES_GLOB:
        return libc_object_in(kind, d, b & GLOB_APPEND);
    case FLK_SIZES_WORDS:
        return libc_object_in(kind, b, c & (WRDE_APPEND | WRDE_REUSE));
    case FLK_SIZES_REGEX:
        return libc_object_in(kind, a, false);
    case FLK_SIZES_ADDRESSES:
        return libc_object_in(kind, d, false);
    case FLK_SIZES_LOCALE:
        return (libc_object){.kind = kind, .before = c};
    default:
        FLK_ASSERT(kind == FLK_SIZES_INTERFACES);
        return (libc_object){.kind = kind};
    }
}

// glob leaves an object behind even if it fails, unless it refuses its
// arguments.
static bool has_structure(const libc_object *o, int result) {
    if (o->kind == FLK_SIZES_GLOB)
        return result == 0 || result == GLOB_NOSPACE ||
               result == GLOB_ABORTED || result == GLOB_NOMATCH;
    return result == 0;
}

// A locale that was not allocated in this call is the earlier one, changed in
// place, or a constant of the C library.
static bool is_made_locale(const libc_object *o, const marked *m,
                           uintptr_t result, uint64_t *bytes) {
    if (!result || result == o->before)
        return result != 0;
    return flk_returned_find(&m->marks->returned, result, bytes);
}

static uintptr_t block_after(const libc_object *o, const marked *m,
                             uintptr_t result, uint64_t *bytes) {
    *bytes = 0;
    if (o->kind == FLK_SIZES_LOCALE)
        return is_made_locale(o, m, result, bytes) ? result : 0;
    uintptr_t structure = o->structure ? o->structure : result;
    if (!structure || (o->structure && !has_structure(o, (int)result)))
        return 0;
    uintptr_t block = flk_libc_objects_block(o->kind, structure);
    if (block)
        *bytes = flk_libc_objects_bytes(o->kind, structure);
    return block;
}

static uintptr_t call_object(const libc_object *o, marked *m,
                             const uintptr_t *w, uint32_t stub) {
    flk_function_of_4 original =
        (flk_function_of_4)flk_stub_table_original(stub);
    uintptr_t here = FLK_STACK_HERE;
    begin_notes(m, flk_stub_table_type(stub), here);
    flk_marks *marks = m->marks;
    uintptr_t releasing = marks->releasing, frame = marks->releasing_frame;
    if (o->before) {
        marks->releasing = o->before;
        marks->releasing_frame = here;
    }
    uintptr_t result = original(w[0], w[1], w[2], w[3]);
    marks->releasing = releasing;
    marks->releasing_frame = frame;
    return result;
}

// What becomes of the record of the earlier object.
static void settle(uint32_t session, const libc_object *o, flk_record *known,
                   uintptr_t after, uint64_t bytes, bool has_failed) {
    if (after) {
        flk_tracker_move_end(FLK_LAYER_HEAP, o->before, known, after,
                             bytes ? bytes : known->size_bytes);
        flk_report_settle(session, FLK_LAYER_HEAP, after, known->type);
        return;
    }
    flk_tracker_move_cancel(FLK_LAYER_HEAP, o->before, known);
    if (!has_failed)
        flk_tracker_on_free(FLK_LAYER_HEAP, o->before, 0, known);
}

static bool may_look_up(void) {
    return !flk_platform_thread_marks()->is_forking && !flk_thread_is_inside();
}

uintptr_t flk_results_object(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d,
                             uint32_t stub, const void *caller) {
    const uintptr_t words[4] = {a, b, c, d};
    uint32_t session = flk_stub_table_session();
    flk_sizes kind = kind_of(stub);
    libc_object o = libc_object_of(kind, a, b, c, d);
    bool is_new = is_recorded(stub, caller);
    if (FLK_LIKELY(flk_stub_table_is_off()) || (!is_new && !o.before) ||
        !may_look_up())
        return ((flk_function_of_4)flk_stub_table_original(stub))(a, b, c, d);
    marked m;
    flk_record known;
    bool is_known = o.before && flk_report_moves(FLK_LAYER_HEAP, o.before,
                                                 flk_stub_table_type(stub),
                                                 &known) != FLK_MOVES_NOT;
    uintptr_t result = call_object(&o, &m, words, stub);
    uint64_t bytes;
    uintptr_t after = block_after(&o, &m, result, &bytes);
    if (is_known)
        settle(session, &o, &known, after, bytes,
               kind == FLK_SIZES_LOCALE ? !result : (int)result != 0);
    else if (after && is_new && after != o.before)
        record(stub, session, after, bytes);
    end_notes(&m);
    return result;
}

// --- the end of objects --------------------------------------------------
static bool find_block(uintptr_t block, flk_record *out) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool found = flk_registry_find(FLK_LAYER_HEAP, block, out);
    flk_thread_leave(thread);
    return found;
}

static uintptr_t release(uintptr_t block, uintptr_t a, uintptr_t b, uintptr_t c,
                         uint32_t stub, const void *caller) {
    flk_marks *marks = flk_platform_thread_marks();
    FLK_ASSERT(block != 0);
    if (FLK_UNLIKELY(!flk_bodies_gone(block, stub, (uintptr_t)caller)))
        return 0;
    uintptr_t outer = marks->releasing, outer_frame = marks->releasing_frame;
    marks->releasing = block;
    marks->releasing_frame = FLK_STACK_HERE;
    uintptr_t result =
        ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    marks->releasing = outer;
    marks->releasing_frame = outer_frame;
    return result;
}

// A stream to memory leaves its text to the caller, which must free it. The
// text is allocated anew when the stream is closed. It is recorded as made
// where the stream was.
static void record_text(const marked *m, uint32_t session,
                        const flk_record *stream) {
    const flk_returned *returned = &m->marks->returned;
    flk_record text = *stream;
    text.type = flk_stub_table_text_type(stream->type);
    for (uint32_t i = flk_returned_noted(returned); i-- > 0;)
        if (returned->notes[i].address) {
            text.size_bytes = returned->notes[i].size_bytes;
            flk_report_back(session, FLK_LAYER_HEAP, returned->notes[i].address,
                            &text);
            return;
        }
}

static bool is_to_memory(uintptr_t block, uint32_t stub, flk_record *stream) {
    return flk_stub_table_function(stub) == FLK_FN_FCLOSE && may_look_up() &&
           flk_stub_table_state() == FLK_HOOKS_ON &&
           find_block(block, stream) &&
           flk_stub_table_text_type(stream->type) != 0;
}

uintptr_t flk_results_close(uintptr_t a, uintptr_t b, uintptr_t c,
                            uint32_t stub) {
    uintptr_t block = flk_libc_objects_block(kind_of(stub), a);
    uint32_t session = flk_stub_table_session();
    if (FLK_LIKELY(flk_stub_table_is_off()) || !block ||
        flk_bodies_is_inner_release(flk_platform_thread_marks(), block,
                                    FLK_STACK_HERE))
        return ((flk_function_of_3)flk_stub_table_original(stub))(a, b, c);
    flk_record stream;
    if (!is_to_memory(block, stub, &stream))
        return release(block, a, b, c, stub, __builtin_return_address(0));
    marked m;
    begin_notes(&m, flk_stub_table_text_type(stream.type), FLK_STACK_HERE);
    uintptr_t result =
        release(block, a, b, c, stub, __builtin_return_address(0));
    record_text(&m, session, &stream);
    end_notes(&m);
    return result;
}
#endif

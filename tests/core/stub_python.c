// stub_python.c - fake frames and contexts. The contract stands in stub_python.h. SPDX-License-Identifier: MIT
#include "stub_python.h"

#include <stdatomic.h>
#include <string.h>

#include "paths/codes.h"
#include "paths/pycontext.h"
#include "paths/pyframe.h"

enum { FRAMES_MAX = 128 };

static _Thread_local struct {
    flk_raw_frame frames[FRAMES_MAX];
    size_t count;
    const stub_context *context;
    uint64_t version;
    bool has_state;
} mine;
static atomic_bool is_unreadable;

static atomic_ullong walk_count;
static atomic_uint forked_count;
static char prefix[64];

void stub_set_frames(const stub_code *const *codes, size_t count,
                     int64_t offset) {
    mine.count = count < FRAMES_MAX ? count : FRAMES_MAX;
    for (size_t i = 0; i < mine.count; i++)
        mine.frames[i] =
            (flk_raw_frame){codes[i], (int32_t)offset, (uint32_t)i};
}

void stub_set_context(const stub_context *context, uint64_t version) {
    mine.context = context;
    mine.version = version;
    mine.has_state = context != NULL;
}

void stub_set_no_context(uint64_t version) {
    stub_set_context(NULL, version);
    mine.has_state = true;
}

void stub_set_readable(bool is_readable) {
    atomic_store(&is_unreadable, !is_readable);
}

uint64_t stub_walk_count(void) { return atomic_load(&walk_count); }
uint32_t stub_forked_count(void) { return atomic_load(&forked_count); }

// --- paths/pyframe.h -----------------------------------------------------
static flk_frame_mark mark_at(size_t i) {
    if (i >= mine.count)
        return FLK_MARK_END;
    const flk_raw_frame *frame = &mine.frames[i];
    if (frame->offset == STUB_MARKLESS)
        return FLK_MARK_NONE;
    return ((flk_frame_mark)frame->code << 16) + (uint32_t)frame->offset + 2;
}

bool flk_pyframe_begin(flk_frame_reader *reader, bool is_attached) {
    (void)is_attached;
    reader->frame = mine.count ? &mine : NULL;
    reader->mark = mark_at(0);
    atomic_fetch_add_explicit(&walk_count, 1, memory_order_relaxed);
    return true;
}

void flk_pyframe_end(const flk_frame_reader *reader) { (void)reader; }

flk_frame_mark flk_pyframe_second_mark(const flk_frame_reader *reader) {
    (void)reader;
    return mark_at(1);
}

size_t flk_pyframe_collect(const flk_frame_reader *reader, flk_frame_seen *seen,
                           size_t seen_max) {
    size_t count = mine.count < seen_max ? mine.count + 1 : seen_max;
    (void)reader;
    for (size_t i = 0; i < count; i++)
        seen[i] = (flk_frame_seen){mark_at(i), NULL};
    return count;
}

bool flk_pyframe_matches(const flk_frame_reader *reader, flk_frame_seen *seen,
                         size_t count) {
    (void)reader;
    for (size_t i = 0; i < count; i++)
        if (seen[i].mark != mark_at(i))
            return false;
    return true;
}

size_t flk_pyframe_walk(flk_raw_frame *frames, size_t frames_max,
                        bool *is_lasting) {
    size_t count = 0;
    if (is_lasting)
        *is_lasting = true;
    for (size_t i = 0; i < mine.count && count < frames_max; i++)
        if (mine.frames[i].code)
            frames[count++] = mine.frames[i];
    atomic_fetch_add_explicit(&walk_count, 1, memory_order_relaxed);
    return count;
}

const void *flk_pyframe_hold(void) { return &mine; }
void flk_pyframe_release(const void *thread_state) { (void)thread_state; }
bool flk_pyframe_innermost(flk_raw_frame *out) {
    if (mine.count)
        *out = mine.frames[0];
    return mine.count > 0;
}

int flk_pyframe_attach(void) { return 0; }
void flk_pyframe_detach(int attached) { (void)attached; }
uint64_t flk_pyframe_cut_count(void) { return 0; }
void flk_pyframe_cut_clear(void) {}
void flk_pyframe_open(void) {}
void flk_pyframe_close(void) {}
bool flk_pyframe_is_open(void) { return true; }
void flk_pyframe_forked(void) { atomic_fetch_add(&forked_count, 1); }
const char *flk_pyframe_mismatch(void) { return NULL; }

// --- paths/pycontext.h -----------------------------------------------------
bool flk_pycontext_is_readable(void) { return !atomic_load(&is_unreadable); }

bool flk_pycontext_look(flk_context_mark *out, bool is_attached) {
    (void)is_attached;
    *out = (flk_context_mark){mine.context, mine.version, 1};
    return mine.has_state;
}

bool flk_pycontext_find(flk_context_value *out, bool is_attached) {
    (void)is_attached;
    if (!mine.context || atomic_load(&is_unreadable))
        return false;
    *out = (flk_context_value){mine.context->scope != UINT32_MAX,
                               mine.context->is_entered, mine.context->scope};
    return true;
}

const char *flk_pycontext_install(void *variable, size_t number_offset) {
    (void)variable, (void)number_offset;
    return NULL;
}

// --- paths/codes.h -------------------------------------------------------
static void read_names(const void *address, const char **function,
                       const char **filename) {
    const stub_code *code = address;
    *function = code->function;
    *filename = code->filename;
}

static void read_line(const void *address, int32_t offset, flk_site_info *out) {
    out->line = ((const stub_code *)address)->first_line + offset;
}

static bool identify(const void *address, flk_code_identity *out) {
    const stub_code *code = address;
    read_names(address, &out->function, &out->filename);
    out->lines_hash = (uint64_t)code->first_line;
    out->is_own =
        *prefix && strncmp(code->filename, prefix, strlen(prefix)) == 0;
    return true;
}

static const flk_sites_reader reader = {identify, read_names, read_line};

const char *flk_codes_install(const char *own_prefix) {
    strncpy(prefix, own_prefix, sizeof prefix - 1);
    flk_sites_set_reader(&reader);
    return NULL;
}

void flk_codes_close(void) { flk_sites_freeze_all(); }

bool flk_codes_describe(uint32_t site, flk_site_info *out) {
    return flk_sites_describe(site, out);
}

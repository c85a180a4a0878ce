// mappings.c - mmap, munmap, mremap. Contract: hooks/mappings.h.                SPDX-License-Identifier: MIT
// A munmap may cut a mapping anywhere: the record shrinks, moves to what is left, or becomes two records.
#include "hooks/mappings.h"

#ifdef FLK_HAS_ELF
#include "base/config.h"
#include "hooks/bodies.h"
#include "hooks/report.h"

// Flags of mmap and mremap, the same on both machines.
enum { FIXED = 0x10, REMAP_FIXED = 2, REMAP_KEEPS = 4 };
#define FAILED UINTPTR_MAX

static uintptr_t call(const uintptr_t *w, uint32_t stub) {
    flk_function_of_6 original =
        (flk_function_of_6)flk_stub_table_original(stub);
    return original(w[0], w[1], w[2], w[3], w[4], w[5]);
}

static uint64_t whole_pages(uint64_t bytes) {
    uint64_t page = flk_platform_page_bytes();
    FLK_ASSERT((page & (page - 1)) == 0);
    return (bytes + page - 1) & ~(page - 1);
}

// --- ranges ------------------------------------------------------------
static bool find_mapping(uintptr_t address, flk_record *out) {
    FLK_ASSERT(out != NULL);
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool found = flk_registry_find(FLK_LAYER_MAPPING, address, out);
    flk_thread_leave(thread);
    return found;
}

static bool find_mapping_around(uintptr_t address, flk_entry *out) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return false;
    bool found = flk_registry_containing(FLK_LAYER_MAPPING, address, out);
    flk_thread_leave(thread);
    return found;
}

// The record at `from` covers these bytes from now on.
static void becomes(uint32_t session, uintptr_t from, uintptr_t begin,
                    uintptr_t end) {
    FLK_ASSERT(begin < end);
    flk_record record;
    if (flk_report_moves(FLK_LAYER_MAPPING, from, 0, &record) == FLK_MOVES_NOT)
        return;
    flk_tracker_move_end(FLK_LAYER_MAPPING, from, &record, begin, end - begin);
    flk_report_settle(session, FLK_LAYER_MAPPING, begin, record.type);
}

// A mapping that begins before the range keeps its head, and may keep a tail.
static void cut_head(uint32_t session, uintptr_t begin, uintptr_t end) {
    flk_entry around;
    if (!find_mapping_around(begin, &around))
        return;
    uintptr_t last = around.address + around.record.size_bytes;
    FLK_ASSERT(around.address < begin && begin < last);
    becomes(session, around.address, around.address, begin);
    if (last > end) {
        around.record.size_bytes = last - end;
        flk_report_back(session, FLK_LAYER_MAPPING, end, &around.record);
    }
}

// Removes what is recorded in the range. Returns how far the record at `at`
// reaches, or the next page.
static uintptr_t forget_at(uint32_t session, uintptr_t at, uintptr_t end) {
    FLK_ASSERT(at < end && at % flk_platform_page_bytes() == 0);
    flk_record record;
    if (!find_mapping(at, &record) || record.size_bytes == 0)
        return at + flk_platform_page_bytes();
    uintptr_t last = at + whole_pages(record.size_bytes);
    if (record.size_bytes > end - at)
        becomes(session, at, end, at + record.size_bytes);
    else
        flk_tracker_on_free(FLK_LAYER_MAPPING, at, 0, &record);
    return last;
}

static void forget_range(uintptr_t begin, uint64_t bytes) {
    uintptr_t end = begin + bytes, page = flk_platform_page_bytes();
    uint32_t session = flk_stub_table_session(), probes = 0;
    if (begin % page || bytes == 0 || end < begin)
        return;  // the call will fail
    cut_head(session, begin, end);
    for (uintptr_t at = begin; at < end; probes++) {
        if (probes == FLK_UNMAP_PAGES_MAX) {
            flk_tracker_count(&flk_tracker_counted.dropped);
            return;
        }
        at = forget_at(session, at, end);
    }
}

// --- the three functions -------------------------------------------------
// Unlike malloc, the C library does not map memory on a caller's behalf.
static void record_if_traced(uint32_t session, uintptr_t mapped, uint64_t bytes,
                             uint32_t stub, const void *caller) {
    if (mapped != FAILED && flk_stub_table_state() == FLK_HOOKS_ON &&
        flk_bodies_is_traced(stub, caller))
        flk_report_made(session, FLK_LAYER_MAPPING, mapped, whole_pages(bytes),
                        flk_stub_table_type_of(FLK_FN_MMAP));
}

static uintptr_t map(const uintptr_t *w, uint32_t stub, const void *caller) {
    FLK_ASSERT(flk_stub_table_function(stub) == FLK_FN_MMAP);
    uint32_t session = flk_stub_table_session();
    if (w[3] & FIXED)
        forget_range(w[0], whole_pages(w[1]));
    uintptr_t mapped = call(w, stub);
    record_if_traced(session, mapped, w[1], stub, caller);
    return mapped;
}

// Not exactly one recorded mapping: the old range is removed, the new one
// recorded.
static uintptr_t remap_part(const uintptr_t *w, uint32_t stub,
                            const void *caller) {
    uint32_t session = flk_stub_table_session();
    bool keeps_old = w[3] & REMAP_KEEPS || w[1] == 0;
    if (!keeps_old)
        forget_range(w[0], whole_pages(w[1]));
    uintptr_t mapped = call(w, stub);
    record_if_traced(session, mapped, w[2], stub, caller);
    return mapped;
}

static uintptr_t remap(const uintptr_t *w, uint32_t stub, const void *caller) {
    flk_record known;
    uint32_t session = flk_stub_table_session();
    if (w[3] & REMAP_FIXED)
        forget_range(w[4], whole_pages(w[2]));
    if (!find_mapping(w[0], &known) || w[3] & REMAP_KEEPS ||
        known.size_bytes != whole_pages(w[1]) ||
        flk_report_moves(FLK_LAYER_MAPPING, w[0], 0, &known) == FLK_MOVES_NOT)
        return remap_part(w, stub, caller);
    uintptr_t mapped = call(w, stub);
    if (mapped == FAILED)
        flk_tracker_move_cancel(FLK_LAYER_MAPPING, w[0], &known);
    else
        flk_tracker_move_end(FLK_LAYER_MAPPING, w[0], &known, mapped,
                             whole_pages(w[2]));
    flk_report_settle(session, FLK_LAYER_MAPPING,
                      mapped == FAILED ? w[0] : mapped, known.type);
    return mapped;
}

// Whether an event may be recorded now; else it is counted.
static bool may_record(void) {
    if (flk_platform_thread_marks()->is_forking) {
        flk_report_count(FLK_HOOK_LOST_IN_FORK);
        return false;
    }
    if (flk_thread_is_inside()) {
        flk_report_count(FLK_HOOK_REENTERED);
        return false;
    }
    return true;
}

uintptr_t flk_mappings_call(const uintptr_t *words, uint32_t stub,
                            const void *caller) {
    FLK_ASSERT(flk_stub_table_function(stub) >= FLK_FN_MMAP);
    if (FLK_LIKELY(flk_stub_table_is_off()) || !may_record())
        return call(words, stub);
    switch (flk_stub_table_function(stub)) {
    case FLK_FN_MMAP:
        return map(words, stub, caller);
    case FLK_FN_MUNMAP:
        forget_range(words[0], whole_pages(words[1]));
        return call(words, stub);
    default:
        FLK_ASSERT(flk_stub_table_function(stub) == FLK_FN_MREMAP);
        return remap(words, stub, caller);
    }
}
#endif

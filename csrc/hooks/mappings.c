// mappings.c - mmap, munmap, mremap. Contract: hooks/mappings.h.                SPDX-License-Identifier: MIT
// A munmap may cut a mapping anywhere: its record shrinks, moves to what is left behind, or becomes two.
#include "hooks/mappings.h"

#ifdef FLK_HAS_ELF
#include "base/config.h"
#include "hooks/bodies.h"
#include "hooks/report.h"

// Of the kernel's interface, the same on both machines.
enum { FIXED = 0x10, REMAP_FIXED = 2, REMAP_KEEPS = 4 };
#define FAILED UINTPTR_MAX

static uintptr_t call(const uintptr_t *w, uint32_t site) {
    flk_function_of_6 original = (flk_function_of_6)flk_stubs_original(site);
    return original(w[0], w[1], w[2], w[3], w[4], w[5]);
}

static uint64_t whole_pages(uint64_t bytes) {
    uint64_t page = flk_platform_page_bytes();
    return (bytes + page - 1) & ~(page - 1);
}

// --- ranges ------------------------------------------------------------
static bool find_mapping(uintptr_t address, flk_record *out) {
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

// The record at `from` is of these bytes from now on.
static void becomes(uintptr_t from, uintptr_t begin, uintptr_t end) {
    flk_record record;
    if (flk_report_moves(FLK_LAYER_MAPPING, from, 0, &record))
        flk_tracker_move_end(FLK_LAYER_MAPPING, from, &record, begin,
                             end - begin);
}

// A mapping that begins before the range: its head stays, and maybe a tail.
static void cut_head(uintptr_t begin, uintptr_t end) {
    flk_entry around;
    if (!find_mapping_around(begin, &around))
        return;
    uintptr_t last = around.address + around.record.size_bytes;
    becomes(around.address, around.address, begin);
    if (last > end) {
        around.record.size_bytes = last - end;
        flk_report_back(FLK_LAYER_MAPPING, end, &around.record);
    }
}

static void forget_range(uintptr_t begin, uint64_t bytes) {
    uintptr_t end = begin + bytes, page = flk_platform_page_bytes();
    if (begin % page || bytes == 0 || end < begin)
        return;  // the call will fail
    cut_head(begin, end);
    uint32_t probes = 0;
    for (uintptr_t at = begin; at < end; probes++) {
        flk_record record = {.size_bytes = 0};
        if (probes == FLK_UNMAP_PAGES_MAX) {
            flk_tracker_count(&flk_tracker_counted.dropped);
            return;
        }
        if (find_mapping(at, &record)) {
            if (record.size_bytes > end - at)
                becomes(at, end, at + record.size_bytes);
            else
                flk_tracker_on_free(FLK_LAYER_MAPPING, at, 0, &record);
        }
        at += record.size_bytes ? whole_pages(record.size_bytes) : page;
    }
}

// --- the three ---------------------------------------------------------
static bool is_call_traced(uint32_t site, const void *caller) {
    static const flk_marks nobody;  // the C library maps nothing for callers
    return flk_stubs_state() == FLK_HOOKS_ON &&
           flk_bodies_type_traced(site, caller, &nobody) != 0;
}

static void record(uintptr_t address, uint64_t bytes) {
    flk_report_made(FLK_LAYER_MAPPING, address, whole_pages(bytes),
                    flk_stubs_type_of(FLK_FN_MMAP));
}

static uintptr_t map(const uintptr_t *w, uint32_t site, const void *caller) {
    if (w[3] & FIXED)
        forget_range(w[0], whole_pages(w[1]));
    uintptr_t mapped = call(w, site);
    if (mapped != FAILED && is_call_traced(site, caller))
        record(mapped, w[1]);
    return mapped;
}

static uintptr_t remap_part(const uintptr_t *w, uint32_t site,
                            const void *caller) {
    bool keeps = w[3] & REMAP_KEEPS || w[1] == 0;
    if (!keeps)
        forget_range(w[0], whole_pages(w[1]));
    uintptr_t mapped = call(w, site);
    if (mapped != FAILED && is_call_traced(site, caller))
        record(mapped, w[2]);
    return mapped;
}

static uintptr_t remap(const uintptr_t *w, uint32_t site, const void *caller) {
    flk_record known;
    if (w[3] & REMAP_FIXED)
        forget_range(w[4], whole_pages(w[2]));
    if (!find_mapping(w[0], &known) || w[3] & REMAP_KEEPS ||
        known.size_bytes != whole_pages(w[1]) ||
        !flk_report_moves(FLK_LAYER_MAPPING, w[0], 0, &known))
        return remap_part(w, site, caller);
    uintptr_t mapped = call(w, site);
    if (mapped == FAILED)
        flk_tracker_move_cancel(FLK_LAYER_MAPPING, w[0], &known);
    else
        flk_tracker_move_end(FLK_LAYER_MAPPING, w[0], &known, mapped,
                             whole_pages(w[2]));
    flk_report_settle(FLK_LAYER_MAPPING, mapped == FAILED ? w[0] : mapped,
                      known.type);
    return mapped;
}

uintptr_t flk_mappings_call(const uintptr_t *words, uint32_t site,
                            const void *caller) {
    if (FLK_LIKELY(flk_stubs_is_off()) ||
        flk_platform_thread_marks()->is_forking || flk_thread_is_inside())
        return call(words, site);
    switch (flk_stubs_function(site)) {
    case FLK_FN_MMAP:
        return map(words, site, caller);
    case FLK_FN_MUNMAP:
        forget_range(words[0], whole_pages(words[1]));
        return call(words, site);
    default:
        return remap(words, site, caller);
    }
}
#endif

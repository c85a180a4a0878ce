// api.c - checks arguments and forwards; no logic. Contract: api/api.h.     SPDX-License-Identifier: MIT
#include "api/api.h"

#include <errno.h>
#include <string.h>

#include "api/clients.h"
#include "api/snapshot.h"
#include "base/arena.h"
#include "base/config.h"
#include "elf/demangle.h"
#include "hooks/attach.h"
#include "hooks/sample.h"
#include "paths/callpath.h"
#include "paths/codes.h"
#include "paths/modules.h"
#include "paths/sites.h"
#include "paths/unwind.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/scope.h"
#include "tracker/context.h"
#include "tracker/gate.h"
#include "tracker/heap.h"
#include "tracker/observe.h"
#include "tracker/quarantine.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

static atomic_bool is_ready;

// --- preconditions -----------------------------------------------------
static inline bool is_scope(uint32_t scope) {
    return scope == FLK_SCOPE_NONE || scope == FLK_SCOPE_NOWHERE ||
           scope == FLK_SCOPE_UNCLAIMED || scope < FLK_SCOPES_MAX;
}

static inline bool is_path(uint32_t path) {
    return path == FLK_PATH_NONE || path == FLK_PATH_WALK ||
           path <= flk_callpath_count();
}

static inline bool is_origin(uint16_t type, uint32_t scope, uint32_t path) {
    return type <= flk_names_count() && is_scope(scope) && is_path(path);
}

// --- life --------------------------------------------------------------
const char *flk_start(const char *package_folder) {
    FLK_ASSERT(package_folder && package_folder[0]);
    atomic_store(&is_ready, flk_tracker_init());
    const char *problem = flk_codes_install(package_folder);
    flk_clients_start();
    return problem;
}

int flk_is_ready(void) { return atomic_load(&is_ready); }

void flk_set_stack_depth(uint32_t frames) {
    if (frames > FLK_PATH_FRAMES_MAX)
        frames = FLK_PATH_FRAMES_MAX;
    atomic_store(&flk_tracker_settings.stack_depth, frames);
}

uint32_t flk_stack_depth(void) {
    return atomic_load(&flk_tracker_settings.stack_depth);
}

uint32_t flk_stack_depth_max(void) { return FLK_PATH_FRAMES_MAX; }

void flk_set_native_depth(uint32_t frames) {
    if (frames > FLK_NATIVE_FRAMES_MAX)
        frames = FLK_NATIVE_FRAMES_MAX;
    if (frames > 0)
        flk_unwind_start();
    atomic_store(&flk_tracker_settings.native_depth, frames);
}

uint32_t flk_native_depth(void) {
    return atomic_load(&flk_tracker_settings.native_depth);
}

// --- types and paths ---------------------------------------------------
uint16_t flk_type_intern(const char *type, const char *kind,
                         const char *release) {
    FLK_ASSERT(type && kind && release);
    uint16_t id = flk_names_intern(type, kind, release);
    return id && flk_account_prepare_type(id) ? id : 0;
}

uint32_t flk_path_of(const uint32_t *codes, const int32_t *lines,
                     size_t count) {
    FLK_ASSERT(count == 0 || (codes && lines));
    uint32_t path = FLK_PATH_EMPTY;
    while (count-- > 0) {
        uint32_t site = flk_sites_intern(codes[count], lines[count]);
        path = site ? flk_callpath_child(path, site) : FLK_PATH_NONE;
        if (path == FLK_PATH_NONE)
            return FLK_PATH_EMPTY;
    }
    return path;
}

// --- blocks of the tracker's allocators --------------------------------
void *flk_allocate(size_t size_bytes, size_t alignment, int zeroed,
                   uint16_t type, uint32_t scope, uint32_t path) {
    FLK_ASSERT((alignment & (alignment - 1)) == 0);
    FLK_ASSERT(is_origin(type, scope, path));
    flk_origin origin = {type, scope, path};
    return flk_heap_allocate(size_bytes, alignment, zeroed, &origin);
}

void *flk_resize(void *address, size_t size_bytes, uint16_t type,
                 uint32_t scope, uint32_t path, flk_misuse *out) {
    FLK_ASSERT(out);
    FLK_ASSERT(is_origin(type, scope, path));
    flk_origin origin = {type, scope, path};
    return flk_heap_reallocate(address, size_bytes, &origin, out);
}

void flk_configure(uint32_t quarantine_blocks, uint64_t quarantine_bytes,
                   int poison) {
    FLK_ASSERT(quarantine_blocks <= FLK_QUARANTINE_BLOCKS_MAX);
    flk_recent_configure(
        (flk_recent_limits){quarantine_blocks, quarantine_bytes});
    atomic_store(&flk_tracker_settings.poison, poison);
    if (quarantine_blocks == 0)
        flk_quarantine_drain();
}

int flk_configure_guard(uint32_t guard_bytes) {
    return flk_quarantine_set_guard(guard_bytes) ? 0 : -1;
}

void flk_configuration(uint32_t *quarantine_blocks, uint64_t *quarantine_bytes,
                       int *poison, uint32_t *guard_bytes) {
    FLK_ASSERT(quarantine_blocks && quarantine_bytes && poison && guard_bytes);
    flk_recent_limits limits = flk_recent_read_limits();
    *quarantine_blocks = limits.blocks_max;
    *quarantine_bytes = limits.bytes_max;
    *poison = atomic_load(&flk_tracker_settings.poison);
    *guard_bytes = atomic_load(&flk_tracker_settings.guard_bytes);
}

// --- blocks that were allocated elsewhere ------------------------------
// The layer is part of a record's key, so it must be one of these.
static bool is_layer(uint8_t layer) {
    return layer >= FLK_LAYER_MAPPING && layer <= FLK_LAYER_HANDLE;
}

int flk_track(uint64_t address, uint64_t size_bytes, uint8_t layer,
              uint16_t type, uint32_t scope, uint32_t path) {
    FLK_ASSERT(is_origin(type, scope, path));
    if (!is_layer(layer) || !address || scope == FLK_SCOPE_NOWHERE)
        return 0;
    flk_origin origin = {type, scope, path};
    bool is_first = !atomic_exchange(&flk_tracker_settings.ever_enabled, true);
    if (layer == FLK_LAYER_HANDLE)
        is_first |= !atomic_exchange(&flk_tracker_settings.has_handles, true);
    if (is_first)
        flk_tracker_settle();
    bool recorded =
        flk_tracker_on_alloc((flk_layer)layer, address, size_bytes, 0, &origin);
    if (recorded && flk_observe_is_on())
        flk_observe_made((flk_layer)layer, address);
    return recorded;
}

// Fills in `out`, which may be NULL; returns `found`.
static int block_out(bool found, uint8_t layer, uint64_t address,
                     const flk_record *record, flk_block *out) {
    FLK_ASSERT(!found || record);
    if (found && out)
        *out = flk_quarantine_block_of((flk_layer)layer, address, record);
    return found;
}

int flk_untrack(uint64_t address, uint8_t layer, flk_block *out) {
    flk_record record;
    bool taken =
        is_layer(layer) &&
        flk_tracker_untrack((flk_layer)layer, address, &record) == FLK_TAKEN;
    if (taken && flk_observe_is_on())
        flk_observe_freed((flk_layer)layer, address, &record);
    return block_out(taken, layer, address, &record, out);
}

int flk_find(uint64_t address, uint8_t layer, flk_block *out) {
    flk_record record;
    bool found = is_layer(layer) &&
                 flk_registry_find((flk_layer)layer, address, &record);
    return block_out(found, layer, address, &record, out);
}

int flk_find_containing(uint64_t address, uint8_t layer, flk_block *out) {
    flk_entry entry;
    bool found = is_layer(layer) &&
                 flk_registry_containing((flk_layer)layer, address, &entry);
    return block_out(found, layer, found ? entry.address : 0, &entry.record,
                     out);
}

// --- scopes ------------------------------------------------------------
uint32_t flk_scope_new(uint32_t parent, int isolated) {
    FLK_ASSERT(parent < FLK_SCOPES_MAX);
    flk_attach_refresh();
    return flk_tracker_open_scope(parent, isolated);
}

void flk_scope_gone(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    if (scope != FLK_SCOPE_PROCESS)
        flk_account_drop_scope(scope);
}

void flk_set_process_scope(uint32_t scope) {
    FLK_ASSERT(scope < FLK_SCOPES_MAX);
    atomic_store(&flk_tracker_settings.process_scope, scope);
}

// --- threads -----------------------------------------------------------
uint32_t flk_thread_number(void) {
    flk_thread *thread = flk_thread_enter();
    if (!thread)
        return 0;
    uint32_t number = thread->number;
    flk_thread_leave(thread);
    return number;
}

uint32_t flk_thread_number_if_any(void) {
    return flk_platform_thread_pointer() ? flk_thread_number() : 0;
}

// --- hooks -------------------------------------------------------------
static void pause_hooks_while_off(void) {
    bool is_on;
    do {
        is_on = flk_tracker_is_enabled();
        flk_attach_pause(!is_on);
    } while (flk_tracker_is_enabled() != is_on);
}

int flk_hooks_attach(const char *const *rules, size_t rule_count,
                     int with_mappings, char *reason, size_t reason_bytes) {
    FLK_ASSERT((rules || rule_count == 0) && reason && reason_bytes > 0);
    flk_attach_options options = {rules, rule_count, with_mappings};
    if (flk_attach_begin(&options, reason, reason_bytes) < 0)
        return -1;
    flk_gate_follow(pause_hooks_while_off);
    flk_gate_attach(true);
    pause_hooks_while_off();
    return 0;
}

void flk_hooks_detach(void) {
    flk_attach_end();
    flk_gate_attach(false);
}

void flk_hooks_sample(uint64_t mean_bytes) {
    atomic_store(&flk_sample_mean_bytes, mean_bytes);
}

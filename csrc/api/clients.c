// clients.c - the functions for C code. Contract: api/clients.h.             SPDX-License-Identifier: MIT
#include "api/clients.h"

#include <errno.h>
#include <string.h>

#include "api/api.h"
#include "base/config.h"
#include "elf/loaded.h"
#include "paths/pycontext.h"
#include "registry/names.h"
#include "registry/nesting.h"
#include "registry/references.h"
#include "registry/scope.h"
#include "tracker/context.h"
#include "tracker/misuse.h"
#include "tracker/observe.h"
#include "tracker/quarantine.h"
#include "tracker/tracker_hot.h"

#ifndef _WIN32
#include <dlfcn.h>
#endif
#ifdef FLK_HAS_ELF
#include <link.h>
#endif

// --- events ---------------------------------------------------------------
// The block of this thread with its guard set. NULL: the event is lost, and was
// counted.
static flk_thread *enter(void) {
    flk_thread *thread = NULL;
    if (FLK_LIKELY(!flk_platform_thread_marks()->is_forking))
        thread = flk_thread_enter();
    if (FLK_UNLIKELY(!thread))
        flk_tracker_count(&flk_tracker_counted.dropped);
    return thread;
}

static bool is_type(uint32_t type) {
    return type != 0 && type <= flk_names_count();
}

static uint32_t client_type(const char *type, const char *made_by,
                            const char *release) {
    if (!type || !made_by || !release)
        return 0;
    int saved = errno;
    flk_thread *thread = enter();
    if (!thread)
        return 0;
    flk_thread_leave(thread);
    uint32_t number = flk_type_intern(type, made_by, release);
    errno = saved;
    return number;
}

// --- scopes -----------------------------------------------------------------
// A tag: a number, a mark of all tags, and the serial number of a scope. Numbers
// that are no scopes, as of a thread in no scope, are kept as they are.
enum { TAG_MARK = 1u << 31, TAG_BITS = 20 };
_Static_assert(FLK_SCOPES_MAX <= 1u << TAG_BITS, "a number fits into a tag");
enum { TAG_NONE = 1u << TAG_BITS, TAG_UNCLAIMED = 2u << TAG_BITS };

static ffilt_scope tag_of(uint32_t scope) {
    if (scope >= FLK_SCOPES_MAX)
        return TAG_MARK | (scope == FLK_SCOPE_NONE ? TAG_NONE : TAG_UNCLAIMED);
    return TAG_MARK | scope | (ffilt_scope)flk_scope_serial(scope) << 32;
}

// Where contexts are not read, a thread that asks is in the scope that blocks
// without a scope are given to now, if that is sure.
static ffilt_scope tag_unclaimed(void) {
    flk_scope_lock_all();  // the number stays that of the scope
    uint32_t word = atomic_load(&flk_nesting_unclaimed);
    bool is_sure = !(word & FLK_NESTING_DOUBT) && word != FLK_SCOPE_PROCESS;
    ffilt_scope tag = tag_of(is_sure ? word : FLK_SCOPE_UNCLAIMED);
    flk_scope_unlock_all();
    return tag;
}

static ffilt_scope scope_here(void) {
    int saved = errno;
    flk_thread *thread = enter();
    if (!thread)
        return 0;
    uint32_t scope = flk_context_scope(thread, false);
    bool is_asked =
        scope == FLK_SCOPE_UNCLAIMED && !flk_pycontext_is_readable();
    ffilt_scope tag = is_asked ? tag_unclaimed() : tag_of(scope);
    flk_thread_leave(thread);
    errno = saved;
    return tag;
}

// The scope of a tag. It is published in scope_in_use under the lock of the
// scopes, so its number is not reused before the event is recorded. A scope that
// is dropped is gone: its number may be reused already.
static uint32_t scope_in_use(flk_thread *thread, uint32_t number,
                             uint32_t serial) {
    FLK_ASSERT(thread->inside && number < FLK_SCOPES_MAX);
    uint32_t scope = FLK_SCOPE_NONE;
    flk_scope_lock_all();
    if (!flk_scope_is_dropped(number))
        scope = flk_scope_open_ancestor(number, serial);
    if (scope != FLK_SCOPE_NONE)
        atomic_store(&thread->scope_in_use, scope);
    flk_scope_unlock_all();
    return scope == FLK_SCOPE_PROCESS ? FLK_SCOPE_NONE : scope;
}

static uint32_t scope_of(flk_thread *thread, ffilt_scope tag) {
    FLK_ASSERT(thread->inside);
    uint32_t low = (uint32_t)tag;
    if (!(low & TAG_MARK))
        return flk_context_scope(thread, false);
    uint32_t number = low & (TAG_NONE - 1);
    if (low & TAG_UNCLAIMED)
        return FLK_SCOPE_UNCLAIMED;
    if (low & TAG_NONE || number == FLK_SCOPE_PROCESS)
        return FLK_SCOPE_NONE;
    return scope_in_use(thread, number, (uint32_t)(tag >> 32));
}

// --- records ----------------------------------------------------------------
// As flk_track, but the path is that of a hook, and Python is not called.
static void note_handles(void) {
    bool was_enabled =
        atomic_exchange(&flk_tracker_settings.ever_enabled, true);
    bool had_handles = atomic_exchange(&flk_tracker_settings.has_handles, true);
    if (!was_enabled || !had_handles)
        flk_tracker_settle();
}

static void observe(flk_thread *thread, int what, uint64_t address,
                    const flk_record *record) {
    FLK_ASSERT(thread->inside);
    flk_record found;
    if (FLK_LIKELY(!flk_observe_is_on()))
        return;
    if (!record && flk_registry_find(FLK_LAYER_HANDLE, address, &found))
        record = &found;
    if (record)
        flk_observe_later(what, FLK_LAYER_HANDLE, address, record);
}

static int client_track(const void *object, size_t size_bytes, uint32_t type,
                        ffilt_scope scope) {
    if (!object || !is_type(type) || !flk_tracker_is_enabled())
        return 0;
    int saved = errno;
    flk_thread *thread = enter();
    if (!thread)
        return 0;
    if (FLK_UNLIKELY(!FLK_SETTING(has_handles)))
        note_handles();
    uint64_t address = (uintptr_t)object;
    flk_origin origin = {(uint16_t)type, scope_of(thread, scope),
                         FLK_PATH_WALK_NATIVE};
    bool is_recorded = flk_tracker_record(thread, FLK_LAYER_HANDLE, address,
                                          size_bytes, 0, &origin);
    flk_tracker_release_scope(thread);
    if (is_recorded)
        observe(thread, FLK_OBSERVED_MADE, address, NULL);
    else
        flk_tracker_count(&flk_tracker_counted.dropped);
    flk_thread_leave(thread);
    errno = saved;
    return is_recorded;
}

// What a record is compared with when it is removed.
typedef struct removal {
    flk_event event;
    const char *function;  // that releases it; NULL: any
    const char *of_type;   // others are not compared; NULL: all are
    uint64_t address;
    bool is_wrong;
    bool has_others;  // references; the record stays
} removal;

// Whether `function` is one of "a or b".
static bool is_among(const char *releases, const char *function) {
    FLK_ASSERT(releases != NULL && function != NULL);
    size_t length = strlen(function);
    const char *at = releases;
    while ((at = strstr(at, function)) != NULL) {
        bool begins = at == releases || at[-1] == ' ';
        if (begins && (at[length] == '\0' || at[length] == ' '))
            return true;
        at += length ? length : 1;
    }
    return false;
}

// Memory of ffi.new has the release "gc": C frees it by no function.
static bool judge(const flk_record *record, void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    removal *r = context;
    const char *release = flk_names_at(record->type)->release;
    if (r->function && strcmp(release, "gc") == 0)
        return false;
    r->is_wrong = r->function && strcmp(release, "custom") != 0 &&
                  (!r->of_type ||
                   strcmp(flk_names_at(record->type)->type, r->of_type) == 0) &&
                  !is_among(release, r->function);
    r->has_others = flk_references_drop(r->address);
    if (r->has_others)
        return false;
    flk_tracker_count_free(record, &r->event);
    return true;
}

static void note_misuse(uint64_t address, const flk_record *record) {
    FLK_ASSERT(record->type != 0);
    flk_misuse misuse;
    flk_quarantine_misuse_fill(&misuse, FLK_MISMATCHED_FREE, address, record, 0,
                               flk_tracker_path());
    flk_thread *thread = flk_thread_hold();
    flk_misuse_push(&misuse);
    flk_thread_let_go(thread);
}

static int client_released(const void *object, const char *function,
                           const char *type) {
    if (!object || !FLK_SETTING(has_handles))
        return 0;
    int saved = errno;
    uint64_t address = (uintptr_t)object;
    flk_thread *thread = enter();
    if (!thread)
        return 0;
    removal r = {.event = {.thread = thread},
                 .function = function,
                 .of_type = type,
                 .address = address};
    flk_record record;
    bool is_taken = flk_registry_take(FLK_LAYER_HANDLE, address, judge, &r,
                                      &record) == FLK_TAKEN;
    if (is_taken)
        observe(thread, FLK_OBSERVED_FREED, address, &record);
    flk_thread_leave(thread);
    is_taken |= r.has_others;
    if (is_taken && r.is_wrong)
        note_misuse(address, &record);
    errno = saved;
    return is_taken ? (r.is_wrong ? -1 : 1) : 0;
}

static int client_untrack(const void *object) {
    return client_released(object, NULL, NULL);
}

static int client_retype(const void *object, uint32_t type) {
    if (!object || !is_type(type) || !FLK_SETTING(has_handles))
        return 0;
    int saved = errno;
    flk_thread *thread = enter();
    if (!thread)
        return 0;
    flk_thread_leave(thread);
    bool changed =
        flk_tracker_retype(FLK_LAYER_HANDLE, (uintptr_t)object, (uint16_t)type);
    errno = saved;
    return changed;
}

// Keeps the record: the lock that is held meanwhile keeps it from being removed.
static bool add_reference(const flk_record *record, void *context) {
    FLK_ASSERT(record != NULL && context != NULL);
    removal *r = context;
    r->has_others = flk_references_add(r->address);
    return false;
}

static int client_refer(const void *object, size_t size_bytes, uint32_t type,
                        ffilt_scope scope) {
    if (!object)
        return 0;
    if (!FLK_SETTING(has_handles))
        return client_track(object, size_bytes, type, scope);
    int saved = errno;
    removal r = {.address = (uintptr_t)object};
    flk_record record;
    flk_thread *thread = enter();
    if (!thread)
        return 0;
    flk_taken found = flk_registry_take(FLK_LAYER_HANDLE, r.address,
                                        add_reference, &r, &record);
    flk_thread_leave(thread);
    errno = saved;
    if (found == FLK_ABSENT)
        return client_track(object, size_bytes, type, scope);
    if (!r.has_others)
        flk_tracker_count(&flk_tracker_counted.dropped);
    return r.has_others;
}

// --- the table --------------------------------------------------------------
_Static_assert(sizeof flk_tracker_settings.enabled == 1, "clients read a byte");

#ifdef __GNUC__
__attribute__((visibility("default"), used))
#endif
const ffilt_api_1 ffi_leak_tracker_api_1 = {
    .version = 1,
    .bytes = sizeof(ffilt_api_1),
    .enabled = (const volatile unsigned char *)&flk_tracker_settings.enabled,
    .type = client_type,
    .track = client_track,
    .untrack = client_untrack,
    .released = client_released,
    .retype = client_retype,
    .scope = scope_here,
    .refer = client_refer};

// Python loads modules for itself alone. The same object is opened again, so
// that a look-up in all objects finds the table.
static void show_table(void) {
#if !defined(_WIN32) && defined(RTLD_NOLOAD)
    Dl_info own;
    if (dladdr(&ffi_leak_tracker_api_1, &own) && own.dli_fname)
        dlopen(own.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_GLOBAL);
#endif
}

#ifdef FLK_HAS_ELF
static int tell_one(struct dl_phdr_info *info, size_t bytes, void *unused) {
    flk_elf elf;
    (void)bytes;
    (void)unused;
    if (!flk_elf_open(&elf, info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum))
        return 0;
    ffilt_client_1 *client =
        flk_elf_variable(&elf, "ffi_leak_tracker_client_1", sizeof *client);
    if (client && client->version == 1)
        __atomic_store_n(&client->api, &ffi_leak_tracker_api_1,
                         __ATOMIC_RELEASE);
    return 0;
}

static void tell_clients(void) {
    flk_loaded_lock_all();
    dl_iterate_phdr(tell_one, NULL);
    flk_loaded_unlock_all();
}
#else
static void tell_clients(void) {}
#endif

void flk_clients_start(void) {
    show_table();
    tell_clients();
}

// young.c - recent blocks of each thread. Contract: registry/young.h.      SPDX-License-Identifier: MIT
#include "registry/young.h"

#include "registry/registry_hot.h"
#include "registry/shard.h"

flk_young_slot flk_young_slots[FLK_YOUNG_SLOTS];
struct flk_young_state flk_young;

// What a seat that no thread has keeps for want of memory.
enum { SEAT_OF_NOBODY = FLK_YOUNG_SEATS + 1 };

typedef struct seat {
    flk_thread *thread;  // NULL: vanished in a fork
    bool is_taken;
    bool is_on;          // counted in flk_young.users; its slots have addresses
    uint64_t stolen_at;  // the coarse clock
    uint32_t aside;      // frees without slots after the last theft
} seat;

static struct {
    flk_lock lock;
    seat seats[FLK_YOUNG_SEATS + 1];  // from 1
    // There is no fence: the table is closed for ever. Under the lock.
    bool is_shut;
    bool is_never_aside;
    void (*gone)(const flk_record *record, bool is_replaced);
} young = {.lock = FLK_LOCK_INIT(FLK_RANK_YOUNG)};

static uint64_t tag_of(uint64_t seat_number) {
    FLK_ASSERT(seat_number > 0 && seat_number <= SEAT_OF_NOBODY);
    return seat_number << FLK_YOUNG_SEAT_SHIFT;
}

static uint32_t seat_of(uint64_t key) {
    FLK_ASSERT(key >> FLK_YOUNG_SEAT_SHIFT <= SEAT_OF_NOBODY);
    return (uint32_t)(key >> FLK_YOUNG_SEAT_SHIFT);
}

static uint64_t address_of(uint64_t key) {
    return (key & FLK_YOUNG_NUMBER) << 4;
}

static void key_set(flk_young_slot *slot, uint64_t key) {
    FLK_ASSERT(slot != NULL);
    atomic_store_explicit(&slot->key, key, memory_order_release);
}

// The key of a slot with the same owner, and no address.
static uint64_t bare(uint64_t key) {
    return key & ~(FLK_YOUNG_LIVE | FLK_YOUNG_NUMBER);
}

static bool is_own(const flk_thread *thread, uint64_t key) {
    return thread && thread->young_tag == bare(key);
}

// --- stop and go ---------------------------------------------------------
// The owner of a seat that is off uses no slot, and needs the lock to turn it on.
static bool is_other_user(const seat *s, const flk_thread *self) {
    FLK_ASSERT(s != NULL);
    return s->is_on && s->thread && s->thread != self;
}

static bool others_sit(const flk_thread *self) {
    for (uint32_t i = 1; i <= FLK_YOUNG_SEATS; i++)
        if (is_other_user(&young.seats[i], self))
            return true;
    return false;
}

static void wait_for(const flk_thread *thread) {
    FLK_ASSERT(thread != flk_platform_thread_pointer());
    while (atomic_load_explicit(&thread->young_busy, memory_order_acquire))
        flk_platform_yield();
}

void flk_young_stop(void) {
    flk_thread_lock(&young.lock);
    const flk_thread *self = flk_platform_thread_pointer();
    FLK_ASSERT(!self || !atomic_load(&self->young_busy));
    if (young.is_shut)
        return;
    atomic_store_explicit(&flk_young.closed, 1, memory_order_relaxed);
    if (!others_sit(self))
        return;
    young.is_shut = !flk_platform_fence_threads();
    for (uint32_t i = 1; i <= FLK_YOUNG_SEATS; i++)
        if (is_other_user(&young.seats[i], self))
            wait_for(young.seats[i].thread);
}

void flk_young_go(void) {
    if (FLK_LIKELY(!young.is_shut))
        atomic_store_explicit(&flk_young.closed, 0, memory_order_release);
    flk_thread_unlock(&young.lock);
}

// --- from a slot to a shard ------------------------------------------------
static void no_event(const flk_record *record, void *unused) {
    FLK_ASSERT(record != NULL);
    (void)unused;
}

static void replaced_event(const flk_record *record, void *unused) {
    FLK_ASSERT(record != NULL);
    (void)unused;
    young.gone(record, true);
}

// Puts the record of a live slot into its shard. False without memory. The key
// is still to be changed.
static bool push_record(const flk_young_slot *slot, uint64_t key) {
    FLK_ASSERT(key & FLK_YOUNG_LIVE);
    bool replaced;
    flk_registry_note_move();
    return flk_insert_at(FLK_LAYER_HEAP, FLK_LEVEL_ALIGNED, address_of(key),
                         &slot->record,
                         (flk_insertion){no_event, replaced_event, NULL,
                                         &replaced}) == FLK_OK;
}

// Takes all slots from a seat. Stopped. Records that find no memory stay, and
// keep the seat `keeper` as their owner. False: there are such.
static bool clear_seat(uint32_t number, uint32_t keeper) {
    FLK_ASSERT(number > 0 && number <= FLK_YOUNG_SEATS);
    bool is_clear = true;
    for (uint32_t i = 0; i < FLK_YOUNG_SLOTS; i++) {
        flk_young_slot *slot = &flk_young_slots[i];
        uint64_t key = flk_young_key_of(slot);
        if (seat_of(key) != number)
            continue;
        if (!(key & FLK_YOUNG_LIVE) || push_record(slot, key))
            key_set(slot, 0);
        else {
            is_clear = false;
            key_set(slot, tag_of(keeper) |
                              (key & (FLK_YOUNG_LIVE | FLK_YOUNG_NUMBER)));
        }
    }
    return is_clear;
}

// Takes all slots from a seat and turns it off. Stopped. Where a record stays
// for want of memory, flk_young.users stays above 0.
static void turn_off(uint32_t number, uint32_t keeper) {
    FLK_ASSERT(number > 0 && number <= FLK_YOUNG_SEATS);
    seat *s = &young.seats[number];
    if (!s->is_on)
        return;
    bool is_clear = clear_seat(number, keeper);
    if (!is_clear && keeper == number)
        return;
    s->is_on = false;
    if (s->thread)
        atomic_store_explicit(&s->thread->young_is_on, false,
                              memory_order_relaxed);
    if (is_clear)
        atomic_fetch_sub_explicit(&flk_young.users, 1, memory_order_release);
}

// Another thread needed a block of this owner, or the owner gains nothing. Stopped.
static void send_aside(uint64_t key) {
    uint32_t number = seat_of(key);
    if (number > FLK_YOUNG_SEATS)
        return;
    seat *from = &young.seats[number];
    turn_off(number, number);
    if (young.is_never_aside)
        return;
    uint64_t now = flk_platform_clock_coarse();
    bool is_again = now - from->stolen_at < FLK_YOUNG_ASIDE_AGAIN_NS;
    if (!is_again || !from->aside)
        from->aside = FLK_YOUNG_ASIDE_MIN;
    else if (from->aside < FLK_YOUNG_ASIDE_MAX)
        from->aside *= 2;
    from->stolen_at = now;
    if (from->thread)
        atomic_store_explicit(&from->thread->young_skip, from->aside,
                              memory_order_relaxed);
}

// --- events beside the usual ---------------------------------------------
// For a live block of any owner. Either its owner is this thread, which is busy
// then, or the table is stopped.
typedef struct hold {
    flk_thread *thread;
    flk_young_slot *slot;
    uint64_t key;
    bool is_stopped;
} hold;

// False, without a hold, if no slot has a live block at the address.
static bool hold_live(hold *h, flk_thread *thread, uint64_t number) {
    FLK_ASSERT(h != NULL);
    h->thread = thread;
    h->slot = flk_young_slot_of(number);
    h->key = flk_young_key_of(h->slot);
    h->is_stopped = false;
    if (!flk_young_is_live(h->key, number))
        return false;
    if (is_own(thread, h->key) && flk_young_enter(thread, h->slot, h->key))
        return true;
    flk_young_stop();
    h->is_stopped = true;
    h->key = flk_young_key_of(h->slot);
    if (flk_young_is_live(h->key, number))
        return true;
    flk_young_go();
    return false;
}

static void let_go(const hold *h) {
    FLK_ASSERT(h != NULL);
    if (h->is_stopped)
        flk_young_go();
    else
        flk_young_leave(h->thread);
}

// The block is gone from its slot.
static void let_go_removed(const hold *h) {
    FLK_ASSERT(h->key & FLK_YOUNG_LIVE);
    key_set(h->slot, bare(h->key));
    if (h->is_stopped && !is_own(h->thread, h->key))
        send_aside(h->key);
    let_go(h);
}

FLK_NOINLINE void flk_young_clear(flk_thread *thread, uint64_t number,
                                  flk_insertion how) {
    FLK_ASSERT(how.on_remove != NULL && how.replaced != NULL);
    hold h;
    if (hold_live(&h, thread, number)) {
        how.on_remove(&h.slot->record, how.context);
        *how.replaced = true;
        let_go_removed(&h);
        return;
    }
    flk_young_forget_free(number);
}

void flk_young_forget_free(uint64_t number) {
    flk_young_slot *slot = flk_young_slot_of(number);
    unsigned long long key = flk_young_key_of(slot);
    while (flk_young_is_at(key, number) && !(key & FLK_YOUNG_LIVE) &&
           !atomic_compare_exchange_weak(&slot->key, &key, bare(key)))
        ;
}

FLK_NOINLINE flk_taken flk_young_take_other(flk_thread *thread, uint64_t number,
                                            flk_registry_judge judge,
                                            void *context, flk_record *out) {
    FLK_ASSERT(judge != NULL && out != NULL);
    hold h;
    if (!hold_live(&h, thread, number))
        return FLK_ABSENT;
    flk_record_copy(out, &h.slot->record);
    if (judge(out, context)) {
        let_go_removed(&h);
        return FLK_TAKEN;
    }
    let_go(&h);
    return FLK_KEPT;
}

// The next frees of this thread take no slot. They count as misses.
static void skip_frees(flk_thread *thread, uint32_t count) {
    FLK_ASSERT(thread == flk_platform_thread_pointer());
    thread->young_misses += count;
    atomic_store_explicit(&thread->young_skip, count, memory_order_relaxed);
}

flk_taken flk_young_move_begin(flk_thread *thread, uint64_t address,
                               flk_registry_judge judge, void *context,
                               flk_record *out) {
    FLK_ASSERT(judge != NULL && out != NULL);
    hold h;
    if (!hold_live(&h, thread, flk_young_number(address)))
        return FLK_ABSENT;
    flk_record_copy(out, &h.slot->record);
    flk_taken taken = judge(out, context) ? FLK_TAKEN : FLK_KEPT;
    if (taken == FLK_KEPT) {
        let_go(&h);
        return taken;
    }
    h.slot->record.flags |= FLK_RECORD_MOVING;
    if (!h.is_stopped)
        skip_frees(thread, FLK_YOUNG_MOVED_SKIP);
    if (!push_record(h.slot, h.key)) {
        young.gone(out, false);
        taken = FLK_ABSENT;
    }
    let_go_removed(&h);
    return taken;
}

bool flk_young_find(flk_thread *thread, uint64_t address, flk_record *out) {
    FLK_ASSERT(out != NULL);
    hold h;
    if (!hold_live(&h, thread, flk_young_number(address)))
        return false;
    flk_record_copy(out, &h.slot->record);
    let_go(&h);
    return true;
}

bool flk_young_retype(flk_thread *thread, uint64_t address, uint16_t type,
                      flk_registry_event on_change, void *context) {
    FLK_ASSERT(type != 0 && on_change != NULL);
    hold h;
    if (!hold_live(&h, thread, flk_young_number(address)))
        return false;
    on_change(&h.slot->record, context);
    h.slot->record.type = type;
    let_go(&h);
    return true;
}

// For flk_young_containing: which blocks may contain an address, nearest first.
enum { PLACES_BACK = (FLK_YOUNG_BYTES_MAX + 15) / 16 };

// Whether any of these places has a live block; `*is_foreign`: of another thread.
static bool may_contain(const flk_thread *thread, uint64_t nearest,
                        bool *is_foreign) {
    FLK_ASSERT(is_foreign != NULL);
    bool any = *is_foreign = false;
    for (uint64_t n = nearest; n > 0 && nearest - n <= PLACES_BACK; n--) {
        uint64_t key = flk_young_key_of(flk_young_slot_of(n));
        if (!flk_young_is_live(key, n))
            continue;
        any = true;
        *is_foreign |= !is_own(thread, key);
    }
    return any;
}

// The record of a live block, whose owner is this thread, or stopped.
static bool read_record(flk_thread *thread, uint64_t number, bool is_stopped,
                        flk_record *out) {
    FLK_ASSERT(out != NULL);
    const flk_young_slot *slot = flk_young_slot_of(number);
    if (!flk_young_is_live(flk_young_key_of(slot), number))
        return false;
    if (!is_stopped)
        return flk_young_find(thread, number << 4, out);
    flk_record_copy(out, &slot->record);
    return true;
}

bool flk_young_containing(flk_thread *thread, uint64_t address,
                          flk_entry *out) {
    FLK_ASSERT(out != NULL);
    uint64_t nearest = (address - 1) >> 4;
    bool is_foreign, found = false;
    if (!may_contain(thread, nearest, &is_foreign))
        return false;
    if (is_foreign)  // once, and not for each of its blocks
        flk_young_stop();
    for (uint64_t n = nearest; n > 0 && nearest - n <= PLACES_BACK && !found;
         n--) {
        out->address = n << 4;
        out->layer = FLK_LAYER_HEAP;
        found = read_record(thread, n, is_foreign, &out->record) &&
                address - out->address < out->record.size_bytes;
    }
    if (is_foreign)
        flk_young_go();
    return found;
}

// --- seats ---------------------------------------------------------------
static void sit_down(flk_thread *thread, uint32_t number) {
    FLK_ASSERT(thread->inside && number > 0);
    young.seats[number] = (seat){.thread = thread, .is_taken = true};
    thread->young_tag = tag_of(number);
}

static void take_seat(flk_thread *thread) {
    FLK_ASSERT(thread->inside && thread->young_tag == FLK_THREAD_NO_SEAT);
    static bool is_tried;  // under the lock
    if (!is_tried) {
        is_tried = true;
        young.is_shut = !flk_platform_fence_threads();
    }
    for (uint32_t i = 1; i <= FLK_YOUNG_SEATS && !young.is_shut; i++)
        if (!young.seats[i].is_taken) {
            sit_down(thread, i);
            return;
        }
}

// From now on this thread uses slots. False: there is no seat for it.
static bool turn_on(flk_thread *thread) {
    FLK_ASSERT(thread->inside && !atomic_load(&thread->young_busy));
    flk_thread_lock(&young.lock);
    if (thread->young_tag == FLK_THREAD_NO_SEAT)
        take_seat(thread);
    bool has_seat = thread->young_tag != FLK_THREAD_NO_SEAT && !young.is_shut;
    if (has_seat) {
        young.seats[seat_of(thread->young_tag)].is_on = true;
        atomic_fetch_add_explicit(&flk_young.users, 1, memory_order_relaxed);
        atomic_store_explicit(&thread->young_is_on, true, memory_order_relaxed);
    }
    flk_thread_unlock(&young.lock);
    thread->young_hits = thread->young_misses = 0;
    return has_seat;
}

static void end(flk_thread *thread) {
    FLK_ASSERT(thread->inside);
    if (thread->young_tag == FLK_THREAD_NO_SEAT)
        return;
    uint32_t number = seat_of(thread->young_tag);
    flk_young_stop();
    turn_off(number, SEAT_OF_NOBODY);
    thread->young_tag = FLK_THREAD_NO_SEAT;
    young.seats[number] = (seat){.thread = NULL};
    flk_young_go();
}

// Slots of other owners without a live block become free.
static void free_slots(const flk_thread *thread) {
    FLK_ASSERT(thread->inside);
    flk_young_stop();
    for (uint32_t i = 0; i < FLK_YOUNG_SLOTS; i++) {
        uint64_t key = flk_young_key_of(&flk_young_slots[i]);
        if (!(key & FLK_YOUNG_LIVE) && !is_own(thread, key))
            key_set(&flk_young_slots[i], 0);
    }
    flk_young_go();
}

// The slot has a live block of this thread. It may be old.
static bool make_room(flk_thread *thread, const flk_young_slot *slot,
                      uint64_t key) {
    FLK_ASSERT(atomic_load(&thread->young_busy));
    skip_frees(thread, FLK_YOUNG_FULL_SKIP);
    return ++thread->young_full % FLK_YOUNG_MOVE_EVERY == 0 &&
           push_record(slot, key);
}

// Busy. True: the slot belongs to another thread.
static bool note_free(flk_thread *thread, flk_young_slot *slot, uint64_t key,
                      uint64_t number) {
    FLK_ASSERT(atomic_load(&thread->young_busy));
    unsigned long long none = 0;
    uint64_t wanted = thread->young_tag | number;
    if (key == 0)
        return !atomic_compare_exchange_strong(&slot->key, &none, wanted);
    if (!is_own(thread, key))
        return true;
    if (!(key & FLK_YOUNG_LIVE) || make_room(thread, slot, key))
        key_set(slot, wanted);
    return false;
}

// Slots cost each event a load, which often misses the cache. False, and the
// seat is off: too few blocks were found there.
static bool is_worth_it(flk_thread *thread) {
    FLK_ASSERT(thread->inside && !atomic_load(&thread->young_busy));
    bool is_worth =
        thread->young_hits / FLK_YOUNG_HITS_A_MISS >= thread->young_misses;
    thread->young_hits = thread->young_misses = 0;
    if (!is_worth) {
        flk_young_stop();
        send_aside(thread->young_tag);
        flk_young_go();
    }
    return is_worth;
}

FLK_NOINLINE void flk_young_keep(flk_thread *thread, uint64_t number) {
    FLK_ASSERT(thread->inside && number <= FLK_YOUNG_NUMBER);
    if (!atomic_load_explicit(&thread->young_is_on, memory_order_relaxed) &&
        !turn_on(thread)) {
        atomic_store_explicit(&thread->young_skip, FLK_YOUNG_ASIDE_MAX,
                              memory_order_relaxed);
        return;
    }
    if (++thread->young_misses >= FLK_YOUNG_WINDOW && !is_worth_it(thread))
        return;
    flk_young_slot *slot = flk_young_slot_of(number);
    uint64_t key = flk_young_key_of(slot);
    if (!flk_young_enter(thread, slot, key))
        return;
    // While it is busy no other thread turns its seat off.
    bool is_foreign =
        atomic_load_explicit(&thread->young_is_on, memory_order_relaxed) &&
        note_free(thread, slot, key, number);
    flk_young_leave(thread);
    if (FLK_UNLIKELY(is_foreign) &&
        ++thread->young_foreign >= FLK_YOUNG_FOREIGN_MAX) {
        thread->young_foreign = 0;
        free_slots(thread);
    }
}

// --- the whole table ---------------------------------------------------
void flk_young_never_aside(bool never) {
    flk_thread_lock(&young.lock);
    young.is_never_aside = never;
    flk_thread_unlock(&young.lock);
}

void flk_young_init(void (*gone)(const flk_record *record, bool is_replaced)) {
    FLK_ASSERT(gone != NULL);
    young.gone = gone;
    flk_thread_on_end(end);
}

void flk_young_visit_stopped(uint64_t since, flk_registry_visitor visit,
                             void *context) {
    FLK_ASSERT(visit != NULL);
    for (uint32_t i = 0; i < FLK_YOUNG_SLOTS; i++) {
        flk_young_slot *slot = &flk_young_slots[i];
        uint64_t key = flk_young_key_of(slot);
        if (!(key & FLK_YOUNG_LIVE) || slot->record.sequence < since)
            continue;
        flk_entry entry = {address_of(key), slot->record, FLK_LAYER_HEAP};
        visit(&entry, context);
        slot->record = entry.record;
    }
}

uint64_t flk_young_count_stopped(void) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < FLK_YOUNG_SLOTS; i++)
        count += flk_young_key_of(&flk_young_slots[i]) / FLK_YOUNG_LIVE & 1;
    return count;
}

void flk_young_alone(void) {
    const flk_thread *self = flk_platform_thread_pointer();
    for (uint32_t i = 1; i <= FLK_YOUNG_SEATS; i++)
        if (young.seats[i].thread != self)
            young.seats[i].thread = NULL;
}

void flk_young_forked(void) {
    flk_young_stop();
    for (uint32_t i = 1; i <= FLK_YOUNG_SEATS; i++)
        if (young.seats[i].is_taken && !young.seats[i].thread) {
            turn_off(i, SEAT_OF_NOBODY);
            young.seats[i].is_taken = false;
        }
    flk_young_go();
}

static bool is_in_a_shard(uint64_t address) {
    FLK_ASSERT(address % 16 == 0);
    for (uint32_t left = flk_levels_of(address); left; left &= left - 1) {
        flk_level level = (flk_level)__builtin_ctz(left);
        flk_spot s = flk_spot_of(FLK_LAYER_HEAP, level, address);
        flk_region *region;
        uint32_t slot;
        if (flk_shard_find(&s, level, &region, &slot))
            return true;
    }
    return false;
}

bool flk_young_check_held(void) {
    bool good = true;
    for (uint32_t i = 0; i < FLK_YOUNG_SLOTS; i++) {
        const flk_young_slot *slot = &flk_young_slots[i];
        uint64_t key = flk_young_key_of(slot);
        uint64_t number = key & FLK_YOUNG_NUMBER;
        if (!number)
            good &= !(key & FLK_YOUNG_LIVE);
        else
            good &= flk_young_slot_of(number) == slot &&
                    !is_in_a_shard(number << 4);
        good &= !(key & FLK_YOUNG_LIVE) ||
                (slot->record.size_bytes <= FLK_YOUNG_BYTES_MAX &&
                 !(slot->record.flags & FLK_RECORD_MOVING));
        uint32_t seat_number = seat_of(key);
        good &= seat_number == 0 || seat_number == SEAT_OF_NOBODY ||
                young.seats[seat_number].is_taken;
    }
    return good;
}

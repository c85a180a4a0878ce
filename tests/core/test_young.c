// test_young.c - recent blocks: against a model, with thieves, without a fence, over a fork. SPDX-License-Identifier: MIT
#include <time.h>

#include "registry/young.h"
#include "support.h"

enum { WORKERS = 3, ADDRESSES = 24, STEPS_CHECKED = 97 };

static uint16_t types[2];  // released in different ways

// --- one event -----------------------------------------------------------
static void alloc_at(uint64_t address, uint64_t size, uint16_t type) {
    flk_origin origin = {type, FLK_SCOPE_PROCESS, FLK_PATH_EMPTY};
    CHECK(flk_tracker_on_alloc(FLK_LAYER_HEAP, address, size, 0, &origin));
}

static flk_taken free_at(uint64_t address, uint16_t type) {
    flk_record record;
    return flk_tracker_on_free(FLK_LAYER_HEAP, address, type, &record);
}

static uint64_t key_at(uint64_t address) {
    return flk_young_key_of(flk_young_slot_of(flk_young_number(address)));
}

static bool is_young(uint64_t address) {
    return flk_young_is_live(key_at(address), flk_young_number(address));
}

// After this, this thread has a block in its slot.
static void make_young(uint64_t address) {
    for (uint32_t i = 0; i <= 2 * FLK_YOUNG_MOVED_SKIP; i++) {
        alloc_at(address, 64, types[0]);
        if (is_young(address))
            return;
        CHECK(free_at(address, types[0]) == FLK_TAKEN);
    }
    CHECK(!"it is in a slot");
}

static void *free_here(void *address) {
    CHECK(free_at((uintptr_t)address, types[0]) == FLK_TAKEN);
    return NULL;
}

static void *make_here(void *address) {
    make_young((uintptr_t)address);
    return NULL;
}

static void *alloc_here(void *address) {
    alloc_at((uintptr_t)address, 48, types[0]);
    return NULL;
}

static uint64_t place(uint64_t i) { return 0x700000000000 + i * 64; }

// Another address of the same slot.
static uint64_t twin(uint64_t address) {
    return address ^ 16 ^ UINT64_C(1) << (FLK_YOUNG_SLOT_BITS + 4);
}

// --- single behaviours -----------------------------------------------------
static void test_a_block_that_comes_back_is_in_its_slot(void) {
    uint64_t before = live_in(0);
    make_young(place(1));
    CHECK(live_in(0) == before + 1 && shown_in(0) == before + 1);
    CHECK(free_at(place(1), types[0]) == FLK_TAKEN);
    CHECK(free_at(place(1), types[0]) == FLK_ABSENT);
    CHECK(live_in(0) == before && shown_in(0) == before);
}

static void test_large_and_odd_blocks_are_in_shards(void) {
    make_young(place(2));
    CHECK(free_at(place(2), types[0]) == FLK_TAKEN);
    alloc_at(place(2), FLK_YOUNG_BYTES_MAX + 1, types[0]);
    CHECK(!is_young(place(2)) && flk_tracker_check());
    CHECK(free_at(place(2), types[0]) == FLK_TAKEN);
    for (int i = 0; i < 3; i++) {
        alloc_at(place(2) + 8, 8, types[0]);
        CHECK(!is_young(place(2)));
        CHECK(free_at(place(2) + 8, types[0]) == FLK_TAKEN);
    }
}

static const uint64_t high_bits[] = {
    UINT64_C(1) << 48,  UINT64_C(1) << 49,      UINT64_C(1) << 52,
    UINT64_C(3) << 52,  UINT64_C(0xfff) << 52,  UINT64_C(0xffff) << 48,
    UINT64_C(15) << 60, UINT64_C(0x8000) << 48,
};

static void turn_at_high_addresses(uint64_t low) {
    uint64_t before = live_in(0);
    for (size_t i = 0; i < sizeof high_bits / sizeof high_bits[0]; i++)
        for (int turn = 0; turn < 3; turn++) {
            CHECK(free_at(high_bits[i] | low, types[0]) == FLK_ABSENT);
            alloc_at(high_bits[i] | low, 64, types[0]);
            CHECK(live_in(0) == before + 1 && flk_tracker_check());
            CHECK(free_at(high_bits[i] | low, types[0]) == FLK_TAKEN);
            CHECK(flk_tracker_check());
        }
}

// A key has 48 bits of an address.
static void test_high_addresses_are_in_shards(void) {
    make_young(place(16));
    turn_at_high_addresses(place(16));
    CHECK(is_young(place(16)));
    CHECK(free_at(place(16), types[0]) == FLK_TAKEN);
    turn_at_high_addresses(place(16));
}

static void count_visit(flk_entry *entry, void *context) {
    *(uint32_t *)context += entry->address == place(17);
}

static uint32_t visits_since(uint64_t since) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_touched(i, since, count_visit, &count);
    return count;
}

static void test_a_visit_of_touched_shards_sees_it(void) {
    make_young(place(17));
    flk_registry_follow_begin();
    CHECK(visits_since(flk_sequence_mark()) == 0);
    CHECK(free_at(place(17), types[0]) == FLK_TAKEN && visits_since(0) == 0);
    uint64_t mark = flk_sequence_mark();
    make_young(place(17));
    CHECK(visits_since(mark) == 1);
    flk_registry_follow_end();
    CHECK(free_at(place(17), types[0]) == FLK_TAKEN);
}

static void *retype_here(void *address) {
    CHECK(flk_tracker_retype(FLK_LAYER_HEAP, (uintptr_t)address, types[1]));
    return NULL;
}

static void test_it_gets_another_type(void) {
    flk_record record;
    void *block = (void *)(uintptr_t)place(18);
    CHECK(flk_account_prepare_type(types[1]));
    for (int by_another = 0; by_another < 2; by_another++) {
        make_young(place(18));
        if (by_another)
            in_thread(retype_here, block);
        else
            retype_here(block);
        CHECK(is_young(place(18)) && flk_tracker_check());
        CHECK(flk_registry_find(FLK_LAYER_HEAP, place(18), &record));
        CHECK(record.type == types[1]);
        CHECK(free_at(place(18), types[0]) == FLK_KEPT);
        CHECK(free_at(place(18), types[1]) == FLK_TAKEN);
        CHECK(!flk_tracker_retype(FLK_LAYER_HEAP, place(18), types[1]));
    }
}

static void test_another_release_is_refused(void) {
    make_young(place(3));
    CHECK(free_at(place(3), types[1]) == FLK_KEPT && is_young(place(3)));
    CHECK(free_at(place(3), types[0]) == FLK_TAKEN);
}

static void test_a_missed_free_is_noticed_in_a_slot(void) {
    uint64_t before = live_in(0), missed = self_figures().missed_frees;
    make_young(place(4));
    alloc_at(place(4), 32, types[0]);
    CHECK(self_figures().missed_frees == missed + 1);
    CHECK(live_in(0) == before + 1 && flk_tracker_check());
    CHECK(free_at(place(4), types[0]) == FLK_TAKEN && live_in(0) == before);
}

// The slot says that the address is free, while another thread has a block there
// whose free is missed.
static void test_a_missed_free_behind_a_slot_is_noticed(void) {
    uint64_t before = live_in(0), missed = self_figures().missed_frees;
    make_young(place(5));
    CHECK(free_at(place(5), types[0]) == FLK_TAKEN);
    in_thread(alloc_here, (void *)(uintptr_t)place(5));
    alloc_at(place(5), 32, types[0]);
    CHECK(self_figures().missed_frees == missed + 1);
    CHECK(free_at(place(5), types[0]) == FLK_TAKEN);
    CHECK(live_in(0) == before && shown_in(0) == before && flk_tracker_check());
}

static void test_another_thread_frees_it(void) {
    uint64_t before = live_in(0);
    make_young(place(6));
    make_young(place(7));
    in_thread(free_here, (void *)(uintptr_t)place(6));
    CHECK(!is_young(place(6)) && !is_young(place(7)));  // all went
    CHECK(live_in(0) == before + 1 && flk_tracker_check());
    in_thread(free_here, (void *)(uintptr_t)place(7));
    CHECK(live_in(0) == before && shown_in(0) == before);
}

static void test_a_thread_that_is_stolen_from_stands_aside(void) {
    flk_young_never_aside(false);
    make_young(place(8));
    in_thread(free_here, (void *)(uintptr_t)place(8));
    for (uint32_t i = 0; i < FLK_YOUNG_ASIDE_MIN; i++) {
        alloc_at(place(8), 64, types[0]);
        CHECK(!is_young(place(8)));
        CHECK(free_at(place(8), types[0]) == FLK_TAKEN);
    }
    make_young(place(8));
    CHECK(free_at(place(8), types[0]) == FLK_TAKEN);
    flk_young_never_aside(true);
}

static bool has_any_address(void) {
    for (uint32_t i = 0; i < FLK_YOUNG_SLOTS; i++)
        if (flk_young_key_of(&flk_young_slots[i]) & FLK_YOUNG_NUMBER)
            return true;
    return false;
}

// Blocks that live for many events of their thread fill the slots.
static void test_a_thread_that_gains_nothing_stands_aside(void) {
    enum { MANY = 4 * FLK_YOUNG_SLOTS };
    uint64_t before = live_in(0), base = 0x720000000000, turns = 0;
    flk_young_never_aside(false);
    for (uint64_t i = 0; i < MANY; i++)
        alloc_at(base + i * 16, 16, types[0]);
    while (turns == 0 || (turns < 64 * MANY && flk_young_is_used())) {
        CHECK(free_at(base + turns % MANY * 16, types[0]) == FLK_TAKEN);
        alloc_at(base + turns++ % MANY * 16, 16, types[0]);
    }
    CHECK(!flk_young_is_used() && !has_any_address());
    CHECK(live_in(0) == before + MANY && shown_in(0) == before + MANY);
    CHECK(flk_tracker_check());
    for (uint64_t i = 0; i < MANY; i++)
        CHECK(free_at(base + i * 16, types[0]) == FLK_TAKEN);
    for (turns = 0; turns <= FLK_YOUNG_ASIDE_MAX && !is_young(base); turns++) {
        CHECK(free_at(base, types[0]) == (turns ? FLK_TAKEN : FLK_ABSENT));
        alloc_at(base, 16, types[0]);
    }
    CHECK(is_young(base));  // it tries again
    CHECK(free_at(base, types[0]) == FLK_TAKEN && live_in(0) == before);
    flk_young_never_aside(true);
}

static void test_the_end_of_a_thread_leaves_its_blocks(void) {
    uint64_t before = live_in(0);
    in_thread(make_here, (void *)(uintptr_t)place(9));
    CHECK(!is_young(place(9)) && live_in(0) == before + 1);
    CHECK(shown_in(0) == before + 1 && flk_tracker_check());
    CHECK(free_at(place(9), types[0]) == FLK_TAKEN);
}

static void test_blocks_of_one_slot_take_turns(void) {
    uint64_t before = live_in(0);
    make_young(place(10));
    CHECK(flk_young_slot_of(flk_young_number(place(10))) ==
          flk_young_slot_of(flk_young_number(twin(place(10)))));
    bool moved = false;
    for (int i = 0; i < 64; i++) {
        alloc_at(twin(place(10)), 16, types[0]);
        moved |= is_young(twin(place(10)));
        CHECK(free_at(twin(place(10)), types[0]) == FLK_TAKEN);
    }
    CHECK(moved && flk_tracker_check());
    CHECK(free_at(place(10), types[0]) == FLK_TAKEN && live_in(0) == before);
}

static void *find_inside(void *address) {
    flk_entry entry;
    return flk_registry_containing(FLK_LAYER_HEAP, (uintptr_t)address, &entry)
               ? address
               : NULL;
}

static void test_an_address_inside_is_found(void) {
    flk_entry entry;
    make_young(place(11));
    CHECK(flk_registry_containing(FLK_LAYER_HEAP, place(11) + 63, &entry));
    CHECK(entry.address == place(11) && entry.record.size_bytes == 64);
    CHECK(!flk_registry_containing(FLK_LAYER_HEAP, place(11) + 64, &entry));
    CHECK(!flk_registry_containing(FLK_LAYER_HEAP, place(11), &entry));
    CHECK(!flk_registry_containing(FLK_LAYER_HANDLE, place(11) + 1, &entry));
    CHECK(in_thread(find_inside, (void *)(uintptr_t)(place(11) + 9)) != NULL);
    CHECK(in_thread(find_inside, (void *)(uintptr_t)(place(11) + 70)) == NULL);
    CHECK(is_young(place(11)));
    CHECK(free_at(place(11), types[0]) == FLK_TAKEN);
}

static void test_a_reset_forgets_it(void) {
    uint64_t dropped = self_figures().dropped;
    make_young(place(12));
    flk_tracker_reset(FLK_SCOPE_PROCESS);
    CHECK(live_in(0) == 0 && shown_in(0) == 0 && flk_tracker_check());
    CHECK(free_at(place(12), types[0]) == FLK_TAKEN);  // known, not counted
    CHECK(live_in(0) == 0 && self_figures().dropped == dropped);
}

static bool move(uint64_t from, uint64_t to, uint64_t size, bool fails) {
    flk_record record;
    flk_taken taken =
        flk_tracker_move_begin(FLK_LAYER_HEAP, from, types[0], &record);
    if (taken != FLK_TAKEN)
        return false;
    if (fails)
        flk_tracker_move_cancel(FLK_LAYER_HEAP, from, &record);
    else
        CHECK(flk_tracker_move_end(FLK_LAYER_HEAP, from, &record, to, size));
    return true;
}

static void test_a_block_moves(void) {
    uint64_t before = live_in(0), bytes = live_bytes_in(0);
    make_young(place(13));
    CHECK(move(place(13), place(14), 100, false));
    CHECK(live_in(0) == before + 1 && live_bytes_in(0) == bytes + 100);
    CHECK(!is_young(place(13)) && flk_tracker_check());
    CHECK(free_at(place(13), types[0]) == FLK_ABSENT);
    CHECK(free_at(place(14), types[0]) == FLK_TAKEN);
    make_young(place(14));
    CHECK(move(place(14), 0, 0, true) && flk_tracker_check());
    CHECK(free_at(place(14), types[0]) == FLK_TAKEN);
    CHECK(live_in(0) == before && live_bytes_in(0) == bytes);
}

// As a program may say it, though no C library does it: a block is freed at the
// address of one that moves, and the move fails.
static void test_a_failed_move_finds_a_slot_in_its_way(void) {
    flk_record record, other;
    make_young(place(15));
    CHECK(flk_tracker_move_begin(FLK_LAYER_HEAP, place(15), types[0],
                                 &record) == FLK_TAKEN);
    for (uint32_t i = 0; i <= 2 * FLK_YOUNG_MOVED_SKIP; i++) {
        alloc_at(place(15), 64, types[0]);
        CHECK(flk_tracker_on_free(FLK_LAYER_HEAP, place(15), types[0],
                                  &other) == FLK_TAKEN);
    }
    flk_tracker_move_cancel(FLK_LAYER_HEAP, place(15), &record);
    CHECK(flk_tracker_check());
    CHECK(free_at(place(15), types[0]) == FLK_TAKEN);
}

static void test_a_block_is_lost_in_a_move_without_memory(void) {
    uint64_t far = 0x710000000000, before = live_in(0), dropped;
    flk_record record;
    make_young(far);
    dropped = self_figures().dropped;
    // The region of the address is in use no more; it may need pages.
    for (uint64_t nth = 1; nth < 4; nth++) {
        flk_platform_pages_fail_at(nth);
        flk_taken taken =
            flk_tracker_move_begin(FLK_LAYER_HEAP, far, types[0], &record);
        flk_platform_pages_fail_at(0);
        if (taken == FLK_TAKEN)
            flk_tracker_move_cancel(FLK_LAYER_HEAP, far, &record);
        uint64_t lost = self_figures().dropped - dropped;
        CHECK(live_in(0) == before + 1 - lost && flk_tracker_check());
    }
    free_at(far, types[0]);
    CHECK(live_in(0) == before && shown_in(0) == before);
}

// --- against a model, event by event ---------------------------------------
typedef struct worker {
    pthread_t thread;
    uint64_t number;  // of the event
} worker;
static pthread_mutex_t turn_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static int turn = -1;  // the worker whose event is next; WORKERS: the end
static worker workers[WORKERS];

static struct {
    bool is_live[ADDRESSES];
    uint64_t size[ADDRESSES];
    int type[ADDRESSES];
    uint64_t count, missed;
} model;

// Near each other, twins of one slot, and in a large region.
static uint64_t model_address(uint64_t i) {
    uint64_t address = 0x720000000000 + i / 2 * 16 * 5;
    return i & 1 ? twin(address) : address;
}

static void model_alloc(uint64_t i, uint64_t size, int type) {
    alloc_at(model_address(i), size, types[type]);
    model.missed += model.is_live[i];
    model.count += !model.is_live[i];
    model.is_live[i] = true;
    model.size[i] = size;
    model.type[i] = type;
}

static void model_free(uint64_t i, int type) {
    flk_taken wanted = !model.is_live[i]       ? FLK_ABSENT
                       : model.type[i] == type ? FLK_TAKEN
                                               : FLK_KEPT;
    CHECK(free_at(model_address(i), types[type]) == wanted);
    model.count -= wanted == FLK_TAKEN;
    model.is_live[i] &= wanted != FLK_TAKEN;
}

static void model_find(uint64_t i) {
    flk_record record;
    bool found = flk_registry_find(FLK_LAYER_HEAP, model_address(i), &record);
    CHECK(found == model.is_live[i]);
    CHECK(!found || (record.size_bytes == model.size[i] &&
                     record.type == types[model.type[i]]));
}

static void model_move(uint64_t i, uint64_t to, uint64_t size, bool fails) {
    if (model.type[i] == 1)
        return;
    CHECK(move(model_address(i), model_address(to), size, fails) ==
          model.is_live[i]);
    if (!model.is_live[i] || fails)
        return;
    model.missed += to != i && model.is_live[to];
    model.count -= to != i && model.is_live[to];
    model.is_live[i] = false;
    model.is_live[to] = true;
    model.size[to] = size;
    model.type[to] = 0;
}

static void model_check(void) {
    CHECK(flk_tracker_check());
    CHECK(live_in(0) == model.count && shown_in(0) == model.count);
    CHECK(self_figures().missed_frees == model.missed);
    CHECK(self_figures().dropped == 0);
}

static void model_event(uint64_t number) {
    uint64_t i = number % ADDRESSES, to = number / ADDRESSES % ADDRESSES;
    uint64_t what = number >> 40 & 31, size = number >> 20 & 1023;
    int type = (number >> 50 & 7) == 0;
    if (what < 13)
        model_alloc(i, what == 0 ? size + 512 : size, type);
    else if (what < 26)
        model_free(i, type);
    else if (what < 28)
        model_find(i);
    else
        model_move(i, to, size, what == 31);
}

static void *take_turns(void *argument) {
    const worker *self = argument;
    int number = (int)(self - workers);
    pthread_mutex_lock(&turn_lock);
    while (turn != WORKERS) {
        if (turn == number) {
            model_event(self->number);
            turn = -1;
            pthread_cond_broadcast(&turn_changed);
        }
        pthread_cond_wait(&turn_changed, &turn_lock);
    }
    pthread_mutex_unlock(&turn_lock);
    return NULL;
}

static void let_work(int who, uint64_t number) {
    pthread_mutex_lock(&turn_lock);
    workers[who].number = number;
    turn = who;
    pthread_cond_broadcast(&turn_changed);
    while (turn == who && who < WORKERS)
        pthread_cond_wait(&turn_changed, &turn_lock);
    pthread_mutex_unlock(&turn_lock);
}

static void test_it_agrees_with_a_model(void) {
    uint64_t state = 7;
    flk_tracker_begin_anew();
    model.count = 0;
    model.missed = self_figures().missed_frees;
    CHECK(self_figures().dropped == 0);
    for (int i = 0; i < WORKERS; i++)
        pthread_create(&workers[i].thread, NULL, take_turns, &workers[i]);
    // Mostly one thread at a time works, so that it gets slots.
    int who = 0;
    for (int i = 0; i < few_or_many(500, 10000, 40000); i++) {
        uint64_t number = random_next(&state);
        if ((number >> 55 & 7) == 0)
            who = (int)(number >> 58) % WORKERS;
        let_work(who, number >> 3);
        if (i % STEPS_CHECKED == 0)
            model_check();
    }
    pthread_mutex_lock(&turn_lock);
    turn = WORKERS;
    pthread_cond_broadcast(&turn_changed);
    pthread_mutex_unlock(&turn_lock);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    model_check();
    for (uint64_t i = 0; i < ADDRESSES; i++)
        model_free(i, model.type[i]);
    model_check();
}

// --- owners and thieves at once ----------------------------------------------
enum { CELLS = 64 };
static _Atomic uint64_t cells[CELLS];  // addresses of blocks that wait; 0: none
static atomic_bool is_over;

// Each owner has addresses of its own, as the C library gives a block to one
// thread; a thief gives the address back through the queue of its owner.
typedef struct owner {
    pthread_t thread;
    uint64_t first;
    _Atomic uint64_t given_back[CELLS];
    bool has[CELLS];
    uint64_t events;
} owner;
static owner owners[2];

static void own_event(owner *o, uint64_t number) {
    uint64_t i = number % CELLS, address = o->first + i * 64;
    if (atomic_exchange(&o->given_back[i], 0))
        o->has[i] = true;
    if (!o->has[i])
        return;
    alloc_at(address, 1 + (number >> 10 & 255), types[0]);
    if ((number >> 20 & 7) == 0) {  // passed on
        uint64_t none = 0;
        o->has[i] = false;
        if (atomic_compare_exchange_strong(&cells[number >> 30 & (CELLS - 1)],
                                           &none, address))
            return;
        o->has[i] = true;
    }
    if ((number >> 24 & 15) == 0)
        CHECK(move(address, address, 200, number >> 28 & 1));
    CHECK(free_at(address, types[0]) == FLK_TAKEN);
}

static void steal_event(uint64_t number) {
    uint64_t address = atomic_exchange(&cells[number % CELLS], 0);
    if (!address)
        return;
    CHECK(free_at(address, types[0]) == FLK_TAKEN);
    for (int i = 0; i < 2; i++)
        if (address - owners[i].first < CELLS * 64)
            atomic_store(
                &owners[i].given_back[(address - owners[i].first) / 64],
                address);
}

static void *own(void *argument) {
    owner *o = argument;
    uint64_t state = o->first;
    for (int i = 0; i < CELLS; i++)
        o->has[i] = true;
    while (!atomic_load(&is_over)) {
        own_event(o, random_next(&state));
        if (++o->events % 16 == 0)
            steal_event(random_next(&state));
    }
    return NULL;
}

static void *read_all(void *unused) {
    while (!atomic_load(&is_over)) {
        flk_snapshot snapshot;
        CHECK(flk_snapshot_collect(0, 0, 0, &snapshot));
        CHECK(snapshot.count <= 2 * CELLS);
        for (size_t i = 1; i < snapshot.count; i++)
            CHECK(snapshot.blocks[i - 1].sequence <
                  snapshot.blocks[i].sequence);
        flk_snapshot_drop(&snapshot);
        CHECK(flk_registry_check());
        flk_tracker_reset_peak(FLK_SCOPE_PROCESS);
        flk_platform_pause();
    }
    return unused;
}

static void run_owners(double seconds) {
    pthread_t reader;
    atomic_store(&is_over, false);
    for (int i = 0; i < 2; i++)
        owners[i].first = 0x730000000000 + (uint64_t)i * 0x100000;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&owners[i].thread, NULL, own, &owners[i]) == 0);
    CHECK(pthread_create(&reader, NULL, read_all, NULL) == 0);
    struct timespec nap = {(time_t)seconds, (long)(seconds * 1e9) % 1000000000};
    nanosleep(&nap, NULL);
    atomic_store(&is_over, true);
    pthread_join(reader, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(owners[i].thread, NULL);
    CHECK(flk_tracker_check());
    for (uint64_t i = 0; i < CELLS; i++)
        steal_event(i);
    CHECK(live_in(0) == 0 && shown_in(0) == 0 && flk_tracker_check());
    CHECK(self_figures().dropped == 0);
}

static void test_owners_and_thieves_at_once(void) {
    flk_tracker_begin_anew();
    uint64_t missed = self_figures().missed_frees;
    run_owners(few_or_many(1, 2, 2));
    CHECK(self_figures().missed_frees == missed);
}

// --- fork --------------------------------------------------------------------
static bool child_is_sound(void) {
    flk_record record;
    bool found = false;
    // Blocks of the parent's threads are known in the child, and not counted.
    for (int i = 0; i < CELLS; i++)
        found |= flk_registry_find(FLK_LAYER_HEAP,
                                   owners[0].first + (uint64_t)i * 64, &record);
    make_young(place(20));
    return live_in(0) == 1 && shown_in(0) == 1 &&
           free_at(place(20), types[0]) == FLK_TAKEN && flk_tracker_check() &&
           (found || !found);
}

static void test_fork_while_owners_are_busy(void) {
    flk_tracker_begin_anew();
    atomic_store(&is_over, false);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&owners[i].thread, NULL, own, &owners[i]) == 0);
    for (int i = 0; i < few_or_many(1, 3, 20); i++)
        CHECK(child_says(child_is_sound));
    atomic_store(&is_over, true);
    for (int i = 0; i < 2; i++)
        pthread_join(owners[i].thread, NULL);
    for (uint64_t i = 0; i < CELLS; i++)
        steal_event(i);
    CHECK(live_in(0) == 0 && flk_tracker_check());
}

static bool child_keeps_blocks_of_others(void) {
    return free_at(place(30), types[0]) == FLK_TAKEN &&
           free_at(place(31), types[0]) == FLK_TAKEN &&
           free_at(place(31), types[0]) == FLK_ABSENT && live_in(0) == 0 &&
           flk_tracker_check();
}

static atomic_int stage;
static void *make_and_wait(void *unused) {
    make_young(place(30));
    atomic_store(&stage, 1);
    while (atomic_load(&stage) != 2)
        flk_platform_pause();
    return unused;
}

static void test_a_child_knows_the_blocks_of_all_threads(void) {
    pthread_t thread;
    make_young(place(31));
    CHECK(pthread_create(&thread, NULL, make_and_wait, NULL) == 0);
    while (atomic_load(&stage) != 1)
        flk_platform_pause();
    CHECK(is_young(place(30)) && is_young(place(31)));
    CHECK(child_says(child_keeps_blocks_of_others));
    atomic_store(&stage, 2);
    pthread_join(thread, NULL);
    CHECK(free_at(place(30), types[0]) == FLK_TAKEN);
    CHECK(free_at(place(31), types[0]) == FLK_TAKEN);
}

// --- without a fence: in children, since it is for ever ------------------------
static bool is_exact_when_refused_later(void) {
    make_young(place(40));
    atomic_store(&stage, 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, make_and_wait, NULL) == 0);
    while (atomic_load(&stage) != 1)
        flk_platform_pause();
    flk_platform_fence_fail(1);
    bool good = shown_in(0) == 2;  // refused here
    good &= free_at(place(40), types[0]) == FLK_TAKEN;
    for (int i = 0; i < 3; i++) {
        alloc_at(place(40), 64, types[0]);
        good &= !is_young(place(40));
        good &= free_at(place(40), types[0]) == FLK_TAKEN;
    }
    atomic_store(&stage, 2);
    pthread_join(thread, NULL);
    good &= free_at(place(30), types[0]) == FLK_TAKEN;
    run_owners(0.3);
    return good && live_in(0) == 0 && flk_tracker_check();
}

static bool is_exact_when_refused_at_once(void) {
    for (int i = 0; i < 4; i++) {
        alloc_at(place(41), 64, types[0]);
        CHECK(!is_young(place(41)));
        CHECK(free_at(place(41), types[0]) == FLK_TAKEN);
    }
    return live_in(0) == 0 && flk_tracker_check();
}

int main(void) {
    start();
    types[0] = type_of("int");
    types[1] = flk_type_intern("int", "other", "other_free");
    CHECK(types[1] != 0);
    flk_platform_fence_fail(1);
    CHECK(child_says(is_exact_when_refused_at_once));
    flk_platform_fence_fail(0);
    flk_young_never_aside(true);
    RUN(test_a_block_that_comes_back_is_in_its_slot);
    RUN(test_large_and_odd_blocks_are_in_shards);
    RUN(test_high_addresses_are_in_shards);
    RUN(test_a_visit_of_touched_shards_sees_it);
    RUN(test_it_gets_another_type);
    RUN(test_another_release_is_refused);
    RUN(test_a_missed_free_is_noticed_in_a_slot);
    RUN(test_a_missed_free_behind_a_slot_is_noticed);
    RUN(test_another_thread_frees_it);
    RUN(test_a_thread_that_is_stolen_from_stands_aside);
    RUN(test_a_thread_that_gains_nothing_stands_aside);
    RUN(test_the_end_of_a_thread_leaves_its_blocks);
    RUN(test_blocks_of_one_slot_take_turns);
    RUN(test_an_address_inside_is_found);
    RUN(test_a_reset_forgets_it);
    RUN(test_a_block_moves);
    RUN(test_a_failed_move_finds_a_slot_in_its_way);
    RUN(test_it_agrees_with_a_model);
    RUN(test_owners_and_thieves_at_once);
    RUN(test_fork_while_owners_are_busy);
    RUN(test_a_child_knows_the_blocks_of_all_threads);
    CHECK(child_says(is_exact_when_refused_later));
    RUN(test_everything_is_sound);
    RUN(test_a_block_is_lost_in_a_move_without_memory);
    return DONE();
}

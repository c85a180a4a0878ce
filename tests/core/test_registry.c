// test_registry.c - what is at an address, and which block contains it.      SPDX-License-Identifier: MIT
#include "base/config.h"
#include "registry/shard.h"
#include "support.h"

static uint64_t inserted, removed, resized;

static void on_insert(const flk_record *record, void *context) {
    inserted += record && !context;
}
static void on_remove(const flk_record *record, void *context) {
    removed += record && !context;
}
static void on_resize(const flk_record *record, void *context) {
    resized += record && !context;
}
static bool say_yes(const flk_record *record, void *context) {
    return record && !context;
}
static bool say_no(const flk_record *record, void *context) {
    return !record || context;
}

static flk_status insert_in(flk_layer layer, uint64_t address, uint64_t size,
                            uint64_t sequence) {
    flk_record record = {.size_bytes = size, .sequence = sequence};
    bool replaced;
    flk_insertion how = {on_insert, on_remove, NULL, &replaced};
    return flk_registry_insert(layer, address, &record, how);
}

static void insert(uint64_t address, uint64_t size, uint64_t sequence) {
    CHECK(insert_in(FLK_LAYER_HEAP, address, size, sequence) == FLK_OK);
}

static uint64_t find_in(flk_layer layer, uint64_t address) {
    flk_record record;
    return flk_registry_find(layer, address, &record) ? record.sequence : 0;
}

static uint64_t find(uint64_t address) {
    return find_in(FLK_LAYER_HEAP, address);
}

static uint64_t take_in(flk_layer layer, uint64_t address) {
    flk_record record;
    flk_taken taken = flk_registry_take(layer, address, say_yes, NULL, &record);
    CHECK(taken != FLK_KEPT);
    return taken == FLK_TAKEN ? record.sequence : 0;
}

static uint64_t take(uint64_t address) {
    return take_in(FLK_LAYER_HEAP, address);
}

static uint64_t containing(uint64_t address) {
    flk_entry entry;
    if (!flk_registry_containing(FLK_LAYER_HEAP, address, &entry))
        return 0;
    CHECK(entry.address < address && entry.layer == FLK_LAYER_HEAP);
    CHECK(address - entry.address < entry.record.size_bytes);
    return entry.record.sequence;
}

static uint64_t record_count(void) {
    flk_registry_stats stats;
    flk_registry_read_stats(&stats);
    return stats.record_count;
}

static const uint64_t sizes[FLK_LEVELS] = {100,     100,     1 << 12,
                                           1 << 20, 1 << 27, UINT64_C(1) << 35};

// --- find and take -----------------------------------------------------
static void test_each_layer_and_level(void) {
    for (int level = 0; level < FLK_LEVELS; level++)
        for (int layer = 1; layer <= 3; layer++) {
            uint64_t address = 0x7f0000000000 + (level == FLK_LEVEL_ODD);
            insert_in((flk_layer)layer, address, sizes[level], 5);
            for (int other = 1; other <= 3; other++)
                CHECK(find_in((flk_layer)other, address) ==
                      (other == layer ? 5 : 0));
            CHECK(find_in((flk_layer)layer, address + 1) == 0);
            CHECK(take_in((flk_layer)layer, address) == 5);
            CHECK(take_in((flk_layer)layer, address) == 0);
        }
    CHECK(record_count() == 0);
}

static void test_record_comes_back_whole(void) {
    flk_record in = {.size_bytes = FLK_SIZE_MAX,
                     .scope = 0xFFFFE,
                     .sequence = (UINT64_C(1) << 56) - 2,
                     .flags = 4,
                     .path = UINT32_MAX - 5,
                     .type = 65535,
                     .thread = 65534};
    flk_record out;
    bool replaced;
    flk_insertion how = {on_insert, on_remove, NULL, &replaced};
    flk_registry_insert(FLK_LAYER_MAPPING, UINT64_MAX - 4095, &in, how);
    CHECK(!replaced);
    CHECK(flk_registry_take(FLK_LAYER_MAPPING, UINT64_MAX - 4095, say_yes, NULL,
                            &out) == FLK_TAKEN);
    CHECK(memcmp(&in, &out, sizeof in) == 0);
}

static void test_unaligned_neighbours_are_apart(void) {
    for (uint64_t i = 0; i < 600; i++)
        insert(0x10000 + i, i % 3, i + 1);
    for (uint64_t i = 0; i < 600; i++)
        CHECK(find(0x10000 + i) == i + 1);
    CHECK(flk_registry_check());
    for (uint64_t i = 0; i < 600; i++)
        CHECK(take(0x10000 + i) == i + 1);
}

static void test_judge_decides(void) {
    flk_record out = {0};
    insert(0x1000, 8, 9);
    CHECK(flk_registry_take(FLK_LAYER_HEAP, 0x1000, say_no, NULL, &out) ==
          FLK_KEPT);
    CHECK(out.sequence == 9 && find(0x1000) == 9);
    CHECK(flk_registry_move_begin(FLK_LAYER_HEAP, 0x1000, say_no, NULL, &out) ==
          FLK_KEPT);
    CHECK(take(0x1000) == 9);
}

// A free was missed; the old record may be at any level.
static void test_address_reuse_replaces(void) {
    for (int before = 0; before < FLK_LEVELS; before++)
        for (int after = 0; after < FLK_LEVELS; after++) {
            uint64_t address = UINT64_C(1) << 40;
            if (before == FLK_LEVEL_ODD || after == FLK_LEVEL_ODD)
                address++;
            insert(address, sizes[before], 1);
            removed = 0;
            insert(address, sizes[after], 2);
            CHECK(removed == 1 && record_count() == 1);
            CHECK(take(address) == 2 && find(address) == 0);
        }
}

// --- containing --------------------------------------------------------
static void test_interior_of_each_level(void) {
    for (int level = 0; level < FLK_LEVELS; level++) {
        uint64_t size = sizes[level];
        uint64_t shifts[] = {0, 1 << 12, (1 << 12) - 16, 240};
        for (int i = 0; i < 4; i++) {
            uint64_t start =
                (UINT64_C(1) << 42) + shifts[i] + (level == FLK_LEVEL_ODD);
            insert(start, size, 3);
            CHECK(containing(start) == 0 && containing(start - 1) == 0);
            CHECK(containing(start + 1) == 3);
            CHECK(containing(start + size / 2) == 3);
            CHECK(containing(start + size - 1) == 3);
            CHECK(containing(start + size) == 0);
            take(start);
        }
    }
}

static void test_widest_block_of_each_level_is_seen_through(void) {
    static const uint64_t widest[] = {1023,
                                      1023,
                                      (1 << 18) - 1,
                                      (1 << 26) - 1,
                                      (UINT64_C(1) << 34) - 1,
                                      FLK_SIZE_MAX};
    for (int level = 0; level < FLK_LEVELS; level++) {
        uint64_t start = (UINT64_C(1) << 43) - 16 + (level == FLK_LEVEL_ODD);
        insert(start, widest[level], 4);
        CHECK(containing(start + widest[level] - 1) == 4);
        CHECK(containing(start + widest[level]) == 0);
        take(start);
    }
}

static void test_ends_of_the_address_space(void) {
    insert(16, 32, 1);
    CHECK(containing(17) == 1 && containing(1) == 0);
    insert(UINT64_MAX - 15, 8, 2);
    CHECK(containing(UINT64_MAX - 10) == 2 && containing(UINT64_MAX) == 0);
    CHECK(take(16) == 1 && take(UINT64_MAX - 15) == 2);
}

static void test_nearest_block_contains(void) {
    insert(0x100000, 1 << 20, 1);
    insert(0x140000, 64, 2);
    CHECK(containing(0x140010) == 2 && containing(0x140040) == 1);
    CHECK(take(0x100000) == 1 && take(0x140000) == 2);
}

static void test_empty_block_contains_nothing(void) {
    insert(0x100, 0, 1);
    CHECK(containing(0x100) == 0 && containing(0x101) == 0);
    CHECK(take(0x100) == 1);
}

// --- moves -------------------------------------------------------------
static flk_record begin(uint64_t address) {
    flk_record record;
    CHECK(flk_registry_move_begin(FLK_LAYER_HEAP, address, say_yes, NULL,
                                  &record) == FLK_TAKEN);
    return record;
}

static bool move(uint64_t from, const flk_record *moving, uint64_t to,
                 uint64_t size) {
    bool replaced;
    flk_insertion how = {on_resize, on_remove, NULL, &replaced};
    CHECK(flk_registry_move(FLK_LAYER_HEAP, from, moving, to, size, how) ==
          FLK_OK);
    return replaced;
}

static void test_moving_record_is_not_found(void) {
    insert(0x1000, 64, 1);
    flk_record record = begin(0x1000);
    flk_record again;
    CHECK(find(0x1000) == 0 && take(0x1000) == 0 && record_count() == 1);
    CHECK(containing(0x1010) == 0);
    CHECK(flk_registry_move_begin(FLK_LAYER_HEAP, 0x1000, say_yes, NULL,
                                  &again) == FLK_ABSENT);
    flk_registry_move_cancel(FLK_LAYER_HEAP, 0x1000, &record);
    CHECK(containing(0x1010) == 1 && take(0x1000) == 1);
}

static void test_move_between_all_levels(void) {
    for (int from = 0; from < FLK_LEVELS; from++)
        for (int to = 0; to < FLK_LEVELS; to++) {
            uint64_t old = 0x100000 + (from == FLK_LEVEL_ODD);
            uint64_t new = 0x900000 + (to == FLK_LEVEL_ODD);
            insert(old, sizes[from], 6);
            flk_record record = begin(old), out;
            resized = 0;
            CHECK(!move(old, &record, new, sizes[to]) && resized == 1);
            CHECK(find(old) == 0 && record_count() == 1);
            CHECK(flk_registry_find(FLK_LAYER_HEAP, new, &out));
            CHECK(out.size_bytes == sizes[to] && out.flags == 0);
            CHECK(take(new) == 6);
        }
}

static void test_move_in_place_changes_level(void) {
    insert(0x2000, 10, 1);
    for (int i = 0; i < 12; i++) {
        flk_record record = begin(0x2000);
        move(0x2000, &record, 0x2000, sizes[(i * 5) % FLK_LEVELS]);
        CHECK(find(0x2000) == 1 && record_count() == 1);
    }
    CHECK(take(0x2000) == 1 && flk_registry_check());
}

// Another thread is given the old address while the C function runs.
static void test_foreign_block_at_the_old_address(void) {
    insert(0x3000, 64, 1);
    flk_record record = begin(0x3000);
    removed = 0;
    insert(0x3000, 64, 2);
    CHECK(removed == 0 && find(0x3000) == 2);
    flk_record second = begin(0x3000);
    insert(0x3000, 64, 3);
    CHECK(flk_registry_check());
    move(0x3000, &record, 0x4000, 64);
    move(0x3000, &second, 0x5000, 5000);
    CHECK(find(0x3000) == 3 && find(0x4000) == 1 && find(0x5000) == 2);
    CHECK(take(0x3000) == 3 && take(0x4000) == 1 && take(0x5000) == 2);
}

static void test_move_onto_a_live_record_replaces(void) {
    insert(0x3000, 64, 1);
    insert(0x4000, 1 << 20, 2);
    flk_record record = begin(0x3000);
    CHECK(move(0x3000, &record, 0x4000, 64));
    CHECK(record_count() == 1 && take(0x4000) == 1);
}

// realloc to a size that does not fit into a record.
static void test_move_beyond_the_largest_size_loses(void) {
    insert(0x3000, 64, 1);
    flk_record record = begin(0x3000);
    bool replaced;
    removed = 0;
    flk_insertion how = {on_resize, on_remove, NULL, &replaced};
    CHECK(flk_registry_move(FLK_LAYER_HEAP, 0x3000, &record, 0x4000,
                            FLK_SIZE_MAX + 17, how) == FLK_LIMIT);
    CHECK(removed == 1 && record_count() == 0 && flk_registry_check());
}

static void test_watch_tells_of_moves(void) {
    insert(0x1000, 8, 1);
    uint64_t watch = flk_registry_watch_begin();
    CHECK(!flk_registry_watch_end(watch));
    watch = flk_registry_watch_begin();
    flk_record record = begin(0x1000);
    move(0x1000, &record, 0x2000, 8);
    CHECK(flk_registry_watch_end(watch));
    CHECK(take(0x2000) == 1);
}

// --- growth and memory -------------------------------------------------
static void test_grows_and_shrinks(void) {
    enum { MANY = 300000 };
    uint64_t before = flk_arena_bytes();
    uint64_t many = (uint64_t)few_or_many(MANY / 30, MANY / 10, MANY);
    for (uint64_t i = 0; i < many; i++)
        insert(0x10000000 + i * 48, 48, i + 1);
    CHECK(record_count() == many && flk_registry_check());
    for (uint64_t i = 0; i < many; i += 7)
        CHECK(find(0x10000000 + i * 48) == i + 1);
    uint64_t full = flk_arena_bytes();
    for (uint64_t i = 0; i < many; i++)
        CHECK(take(0x10000000 + i * 48) == i + 1);
    CHECK(record_count() == 0 && flk_registry_check());
    flk_registry_stats stats;
    flk_registry_read_stats(&stats);
    CHECK(stats.region_count <= FLK_SHARDS);  // one empty region a shard
    CHECK(flk_arena_bytes() - before < (full - before) / 2 || many < MANY);
}

static void test_churn_of_fresh_addresses_is_flat(void) {
    enum { LIVE = 64 };
    uint64_t many = (uint64_t)few_or_many(20000, 100000, 1000000);
    uint64_t state = 7, ring[LIVE] = {0}, warm = 0;
    for (uint64_t i = 0; i < many; i++) {
        uint64_t *place = &ring[i % LIVE];
        if (*place)
            CHECK(take(*place) != 0);
        *place = (random_next(&state) >> 17) | 1 << 4;
        insert(*place & ~UINT64_C(15), 40, i + 1);
        *place &= ~UINT64_C(15);
        if (i == many / 4)
            warm = flk_arena_bytes();
    }
    CHECK(flk_arena_bytes() <= warm + 4 * FLK_SLAB_BYTES);
    for (int i = 0; i < LIVE; i++)
        take(ring[i]);
    CHECK(record_count() == 0 && flk_registry_check());
}

// --- addresses made to collide -----------------------------------------
// The number of a region that belongs into the first shard.
static uint64_t number_in_first_shard(uint64_t *state) {
    for (;;) {
        uint64_t number = random_next(state) >> 20;
        uint64_t hash = flk_hash_key(
            flk_region_key(FLK_LAYER_HEAP, FLK_LEVEL_ALIGNED, number));
        if (hash >> 54 == 0)
            return number;
    }
}

// Numbers a Fibonacci number apart have almost the same hash (base/hash.h).
enum { FIBONACCI_48_LOW = 512559680 };  // less 2^32

static void test_colliding_addresses_are_kept_apart(void) {
    enum { MANY = 3000 };
    static uint64_t addresses[MANY];
    uint64_t number = 1;
    const uint64_t step = FIBONACCI_48_LOW + (UINT64_C(1) << 32);
    while (flk_hash_key(
               flk_region_key(FLK_LAYER_HEAP, FLK_LEVEL_ALIGNED, number)) >>
               53 !=
           0)
        number++;  // the first half of the first shard
    for (int i = 0; i < MANY; i++) {
        addresses[i] = (number + step * (uint64_t)i) << 12;
        insert(addresses[i], 16, (uint64_t)i + 1);
    }
    CHECK(flk_shards[0].record_count == MANY && flk_registry_check());
    for (int i = 0; i < MANY; i++)
        CHECK(find(addresses[i]) == (uint64_t)i + 1);
    for (int i = 0; i < MANY; i++) {
        CHECK(take(addresses[i * 7 % MANY]) == (uint64_t)(i * 7 % MANY) + 1);
        if (i % 500 == 0)
            CHECK(flk_registry_check());
    }
}

static void test_full_shard_refuses_without_harm(void) {
    static uint64_t addresses[FLK_SHARD_REGIONS_MAX];
    uint32_t count = 0;
    uint64_t state = 5;
    flk_registry_stats stats;
    for (;; count++) {
        addresses[count] = number_in_first_shard(&state) << 12;
        if (insert_in(FLK_LAYER_HEAP, addresses[count], 16, count + 1) !=
            FLK_OK)
            break;
    }
    CHECK(count == FLK_SHARD_REGIONS_MAX / 8 * 7);
    CHECK(flk_registry_check() && find(addresses[count]) == 0);
    flk_registry_read_stats(&stats);
    CHECK(stats.longest_move <= FLK_SHARD_REGIONS_MAX + 1023);
    while (count-- > 0)
        CHECK(take(addresses[count]) == count + 1);
    CHECK(flk_shards[0].capacity <= 16);
}

static void test_longest_move_is_counted(void) {
    flk_registry_stats stats;
    flk_registry_read_stats(&stats);
    CHECK(stats.longest_move > 0);
    CHECK(stats.longest_move <= FLK_SHARD_REGIONS_MAX + 1023);
}

int main(void) {
    flk_registry_init();
    RUN(test_each_layer_and_level);
    RUN(test_record_comes_back_whole);
    RUN(test_unaligned_neighbours_are_apart);
    RUN(test_judge_decides);
    RUN(test_address_reuse_replaces);
    RUN(test_interior_of_each_level);
    RUN(test_widest_block_of_each_level_is_seen_through);
    RUN(test_ends_of_the_address_space);
    RUN(test_nearest_block_contains);
    RUN(test_empty_block_contains_nothing);
    RUN(test_moving_record_is_not_found);
    RUN(test_move_between_all_levels);
    RUN(test_move_in_place_changes_level);
    RUN(test_foreign_block_at_the_old_address);
    RUN(test_move_onto_a_live_record_replaces);
    RUN(test_move_beyond_the_largest_size_loses);
    RUN(test_watch_tells_of_moves);
    RUN(test_grows_and_shrinks);
    RUN(test_churn_of_fresh_addresses_is_flat);
    RUN(test_colliding_addresses_are_kept_apart);
    if (!is_slow_tool())
        RUN(test_full_shard_refuses_without_harm);
    RUN(test_longest_move_is_counted);
    CHECK(flk_registry_check() && flk_arena_check());
    return DONE();
}

// test_young_steps.c - every order of the steps of the protocol of registry/young.h. SPDX-License-Identifier: MIT
// Model:   two owners and a thief, as programs of steps over shared words. Each has a store buffer, so a store of its
//          own may reach the others late. The fence of the thief empties the buffers of all (membarrier). A compiler
//          fence does nothing here. All orders of steps and of stores that become visible are walked.
// Checks:  the thief and a busy owner never use the slots at once; each block is counted once, whoever takes it.
// Proof:   without one part of the protocol the walk finds an order that fails.
#include <stdbool.h>
#include <stdint.h>

#include "check.h"

enum { BUFFER = 4, SEEN = 1 << 20 };
// Shared words.
enum { CLOSED, BUSY_0, BUSY_1, KEY_0, KEY_1, SHARD_0, SHARD_1, LOCK, WORDS };
enum { FREE = 1, LIVE = 2, NONE = 3 };  // keys
enum { OWNERS = 2, THIEF = 2, PROGRAMS = 3 };

typedef struct buffered {
    uint8_t word, value;
} buffered;

typedef struct state {
    uint8_t words[WORDS];
    uint8_t at[PROGRAMS];   // the next step
    uint8_t key[PROGRAMS];  // a register: the key that was read
    uint8_t taken[OWNERS];  // how often the block of an owner was taken
    uint8_t count[OWNERS];  // buffered stores
    buffered buffer[OWNERS][BUFFER];
    uint8_t turns[OWNERS];  // allocations and frees so far
    bool uses[PROGRAMS];    // is between enter and leave
    uint8_t wants;  // the owner whose block the thief frees; 2: a reader
} state;

// What is left out, to see that the walk would notice.
static struct {
    bool fence, wait, look, again;
} without;
static bool has_failed;

// --- memory ------------------------------------------------------------------
static uint8_t load(const state *s, int who, int word) {
    if (who < OWNERS)
        for (int i = s->count[who]; i > 0; i--)
            if (s->buffer[who][i - 1].word == word)
                return s->buffer[who][i - 1].value;
    return s->words[word];
}

static void drain_one(state *s, int who) {
    buffered first = s->buffer[who][0];
    s->words[first.word] = first.value;
    s->count[who]--;
    memmove(s->buffer[who], s->buffer[who] + 1,
            s->count[who] * sizeof(buffered));
    s->buffer[who][s->count[who]] = (buffered){0, 0};
}

static void store(state *s, int who, int word, uint8_t value) {
    if (who >= OWNERS) {  // the thief has no buffer: that only adds orders
        s->words[word] = value;
        return;
    }
    if (s->count[who] == BUFFER)
        drain_one(s, who);
    s->buffer[who][s->count[who]++] = (buffered){(uint8_t)word, value};
}

static void fence(state *s) {
    for (int who = 0; who < OWNERS; who++)
        while (s->count[who] > 0)
            drain_one(s, who);
}

static void use(state *s, int who) {
    s->uses[who] = true;
    has_failed |= who < OWNERS && s->uses[THIEF];
    has_failed |= who == THIEF && (s->uses[0] || s->uses[1]);
}

// --- an owner: allocate, free, allocate at one address -------------------------
// Its block is live in the slot after the first turn. The free of the second turn
// may find that the thief was faster.
enum { TURNS = 3 };
static bool owner_step(state *s, int who) {
    int key = KEY_0 + who, busy = BUSY_0 + who, shard = SHARD_0 + who;
    bool frees = s->turns[who] == 1;
    uint8_t wanted = frees ? LIVE : FREE;
    switch (s->at[who]) {
    case 0:  // the first look, outside
        if (s->turns[who] == TURNS)
            return false;
        s->key[who] = load(s, who, key);
        s->at[who] = s->key[who] == wanted ? 1 : 6;
        return true;
    case 1:
        store(s, who, busy, 1);
        s->at[who] = 2;
        return true;
    case 2:
        s->at[who] = load(s, who, CLOSED) && !without.look ? 5 : 3;
        return true;
    case 3:
        if (load(s, who, key) != s->key[who] && !without.again) {
            s->at[who] = 5;
            return true;
        }
        use(s, who);
        store(s, who, key, frees ? FREE : LIVE);
        s->taken[who] += frees;
        s->at[who] = 4;
        return true;
    case 4:
        s->uses[who] = false;
        store(s, who, busy, 0);
        s->turns[who]++;
        s->at[who] = 0;
        return true;
    case 5:  // closed, or another key
        store(s, who, busy, 0);
        s->at[who] = 6;
        return true;
    default:  // by the lock: a locked instruction empties the buffer
        while (s->count[who] > 0)
            drain_one(s, who);
        if (s->words[LOCK])
            return false;
        if (frees) {
            bool is_here = s->words[key] == LIVE || s->words[shard];
            s->taken[who] += is_here;
            if (s->words[key] == LIVE)
                s->words[key] = NONE;
            s->words[shard] = 0;
        } else {
            has_failed |= s->words[key] == LIVE;
            if (s->words[key] == FREE)
                s->words[key] = NONE;
            s->words[shard] = 1;
        }
        s->turns[who]++;
        s->at[who] = 0;
        return true;
    }
}

// --- the thief -----------------------------------------------------------------
static void thief_acts(state *s) {
    for (int i = 0; i < OWNERS; i++) {
        if (s->words[KEY_0 + i] != LIVE)
            continue;
        if (s->wants == i)
            s->taken[i]++;
        else
            s->words[SHARD_0 + i] = 1;
        s->words[KEY_0 + i] = NONE;
    }
}

static bool thief_step(state *s) {
    switch (s->at[THIEF]) {
    case 0:
        store(s, THIEF, LOCK, 1);
        s->at[THIEF] = 1;
        return true;
    case 1:
        store(s, THIEF, CLOSED, 1);
        s->at[THIEF] = 2;
        return true;
    case 2:
        if (!without.fence)
            fence(s);
        s->at[THIEF] = 3;
        return true;
    case 3:
    case 4:
        if (s->words[BUSY_0 + s->at[THIEF] - 3] && !without.wait)
            return false;
        s->at[THIEF]++;
        return true;
    case 5:
        use(s, THIEF);
        s->at[THIEF] = 6;
        return true;
    case 6:
        thief_acts(s);
        s->uses[THIEF] = false;
        s->at[THIEF] = 7;
        return true;
    case 7:
        store(s, THIEF, CLOSED, 0);
        s->at[THIEF] = 8;
        return true;
    case 8:
        store(s, THIEF, LOCK, 0);
        s->at[THIEF] = 9;
        return true;
    default:
        return false;
    }
}

// --- the walk --------------------------------------------------------------------
static state *seen;
static uint32_t seen_count, next_new;

static uint64_t hash_of(const state *s) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof *s; i++)
        hash = (hash ^ ((const uint8_t *)s)[i]) * 1099511628211u;
    return hash;
}

static uint32_t *places;
static void note(const state *s) {
    for (uint64_t i = hash_of(s);; i++) {
        uint32_t *place = &places[i % (2 * SEEN)];
        if (*place == 0) {
            CHECK(seen_count < SEEN - 1);
            seen[++seen_count] = *s;
            *place = seen_count;
            return;
        }
        if (memcmp(&seen[*place], s, sizeof *s) == 0)
            return;
    }
}

// At the end each block was taken at most once by all, is where it was put last,
// and is nowhere twice.
static void judge_end(const state *s) {
    for (int i = 0; i < OWNERS; i++) {
        int live = (s->words[KEY_0 + i] == LIVE) + s->words[SHARD_0 + i];
        has_failed |= live > 1;
        // Two allocations; all that is not live was taken or replaced once.
        has_failed |= s->taken[i] + live != 2;
    }
}

static void go_on(const state *from) {
    bool moved = false;
    for (int who = 0; who < PROGRAMS; who++) {
        state s = *from;
        if (who < OWNERS ? owner_step(&s, who) : thief_step(&s)) {
            moved = true;
            note(&s);
        }
        s = *from;
        if (who < OWNERS && s.count[who] > 0) {
            moved = true;
            drain_one(&s, who);
            note(&s);
        }
    }
    if (!moved)
        judge_end(from);
}

// True if an order of steps fails.
static bool fails(uint8_t wants) {
    state first;
    memset(&first, 0, sizeof first);
    memset(places, 0, 2 * SEEN * sizeof *places);
    first.words[KEY_0] = first.words[KEY_1] = FREE;
    first.wants = wants;
    has_failed = false;
    seen_count = next_new = 0;
    note(&first);
    while (next_new < seen_count && !has_failed)
        go_on(&seen[++next_new]);
    return has_failed;
}

static void test_a_reader_meets_no_busy_owner(void) {
    CHECK(!fails(OWNERS));
    printf("%u states\n", seen_count);
}

static void test_a_block_is_taken_once(void) { CHECK(!fails(0) && !fails(1)); }

static void test_a_part_left_out_is_noticed(void) {
    without.fence = true;
    CHECK(fails(OWNERS));
    without.fence = false;
    without.wait = true;
    CHECK(fails(OWNERS));
    without.wait = false;
    without.look = true;
    CHECK(fails(OWNERS));
    without.look = false;
    without.again = true;
    CHECK(fails(OWNERS));
    without.again = false;
    CHECK(!fails(OWNERS));
}

int main(void) {
    seen = calloc(SEEN, sizeof *seen);
    places = calloc(2 * SEEN, sizeof *places);
    CHECK(seen && places);
    RUN(test_a_reader_meets_no_busy_owner);
    RUN(test_a_block_is_taken_once);
    RUN(test_a_part_left_out_is_noticed);
    free(places);
    free(seen);
    return DONE();
}

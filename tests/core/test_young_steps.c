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
enum {
    CLOSED,
    BUSY_0,
    BUSY_1,
    KEY_0,
    KEY_1,
    SHARD_0,
    SHARD_1,
    LOCK,
    ON_0,
    ON_1,
    USERS,
    WORDS
};
enum { FREE = 1, LIVE = 2, NONE = 3 };  // keys
// What the thief wants: the block of owner 0 or 1; to read; to turn both off.
enum { READER = 2, BOTH_OFF = 3 };
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
    uint8_t wants;
} state;

// What is left out, to see that the walk would notice.
static struct {
    bool fence, wait, look, again, on_again;
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

static void fence_of(state *s, int who) {
    while (s->count[who] > 0)
        drain_one(s, who);
}

static void fence(state *s) {
    for (int who = 0; who < OWNERS; who++)
        fence_of(s, who);
}

static void use(state *s, int who) {
    s->uses[who] = true;
    has_failed |= who < OWNERS && s->uses[THIEF];
    has_failed |= who == THIEF && (s->uses[0] || s->uses[1]);
}

// --- an owner: note a free address, allocate there, free, allocate there -------
// Its block is live in the slot after turn 1. The free of turn 2 may find that the
// thief was faster.
enum { NOTES, FREES = 2, TURNS = 4 };
enum { ENTER = 1, LOOK, USE, LEAVE, REFUSED, BY_LOCK, DIRECT };

static void turn_ends(state *s, int who) {
    s->turns[who]++;
    s->at[who] = 0;
}

// The first look, outside.
static void look(state *s, int who) {
    uint8_t wanted = s->turns[who] == FREES ? LIVE : FREE;
    s->key[who] = load(s, who, KEY_0 + who);
    if (s->turns[who] == NOTES)
        s->at[who] = load(s, who, ON_0 + who) ? ENTER : BY_LOCK;
    else if (!load(s, who, USERS))
        s->at[who] = DIRECT;
    else
        s->at[who] = s->key[who] == wanted ? ENTER : BY_LOCK;
}

// Busy, and not closed.
static void use_slot(state *s, int who) {
    int turn = s->turns[who];
    bool is_off = turn == NOTES && !load(s, who, ON_0 + who);
    if ((load(s, who, KEY_0 + who) != s->key[who] && !without.again) ||
        (is_off && !without.on_again)) {
        s->at[who] = REFUSED;
        return;
    }
    use(s, who);
    store(s, who, KEY_0 + who, turn == NOTES || turn == FREES ? FREE : LIVE);
    s->taken[who] += turn == FREES;
    s->at[who] = LEAVE;
}

// With the lock of the thief: a locked instruction empties the buffer.
static bool by_lock(state *s, int who) {
    int key = KEY_0 + who, shard = SHARD_0 + who;
    fence_of(s, who);
    if (s->words[LOCK])
        return false;
    if (s->turns[who] ==
        NOTES) {  // is turned on, if it was off, and tries again
        s->words[USERS] += !s->words[ON_0 + who];
        s->words[ON_0 + who] = 1;
        s->at[who] = 0;
        return true;
    }
    if (s->turns[who] == FREES) {
        s->taken[who] += s->words[key] == LIVE || s->words[shard];
        if (s->words[key] == LIVE)
            s->words[key] = NONE;
        s->words[shard] = 0;
    } else {
        has_failed |= s->words[key] == LIVE;
        if (s->words[key] == FREE)
            s->words[key] = NONE;
        s->words[shard] = 1;
    }
    turn_ends(s, who);
    return true;
}

// With the lock of the shard: nobody uses slots, so no slot has the address.
static void direct(state *s, int who) {
    fence_of(s, who);
    has_failed |= s->words[KEY_0 + who] != NONE;
    if (s->turns[who] == FREES)
        s->taken[who] += s->words[SHARD_0 + who];
    s->words[SHARD_0 + who] = s->turns[who] != FREES;
    turn_ends(s, who);
}

static bool owner_step(state *s, int who) {
    int busy = BUSY_0 + who;
    switch (s->at[who]) {
    case 0:
        if (s->turns[who] == TURNS)
            return false;
        look(s, who);
        return true;
    case ENTER:
        store(s, who, busy, 1);
        s->at[who] = LOOK;
        return true;
    case LOOK:
        s->at[who] = load(s, who, CLOSED) && !without.look ? REFUSED : USE;
        return true;
    case USE:
        use_slot(s, who);
        return true;
    case LEAVE:
        s->uses[who] = false;
        store(s, who, busy, 0);
        turn_ends(s, who);
        return true;
    case REFUSED:
        store(s, who, busy, 0);
        s->at[who] = BY_LOCK;
        return true;
    case DIRECT:
        direct(s, who);
        return true;
    default:
        return by_lock(s, who);
    }
}

// --- the thief -----------------------------------------------------------------
static void turn_off(state *s, int i) {
    s->words[KEY_0 + i] = NONE;
    s->words[USERS] -= s->words[ON_0 + i];
    s->words[ON_0 + i] = 0;
}

static void thief_acts(state *s) {
    for (int i = 0; i < OWNERS; i++) {
        bool is_live = s->words[KEY_0 + i] == LIVE;
        if (is_live && s->wants == i)
            s->taken[i]++;
        else if (is_live)
            s->words[SHARD_0 + i] = 1;
        if (is_live)
            s->words[KEY_0 + i] = NONE;
        if (s->wants == i || s->wants == BOTH_OFF)
            turn_off(s, i);
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
    first.words[KEY_0] = first.words[KEY_1] = NONE;
    first.words[ON_0] = first.words[ON_1] = 1;
    first.words[USERS] = OWNERS;
    first.wants = wants;
    has_failed = false;
    seen_count = next_new = 0;
    note(&first);
    while (next_new < seen_count && !has_failed)
        go_on(&seen[++next_new]);
    return has_failed;
}

static void test_a_reader_meets_no_busy_owner(void) {
    CHECK(!fails(READER));
    printf("%u states\n", seen_count);
}

static void test_a_block_is_taken_once(void) { CHECK(!fails(0) && !fails(1)); }

static void test_no_slot_is_used_behind_the_back_of_others(void) {
    CHECK(!fails(BOTH_OFF));
}

static void test_a_part_left_out_is_noticed(void) {
    without.fence = true;
    CHECK(fails(READER));
    without.fence = false;
    without.wait = true;
    CHECK(fails(READER));
    without.wait = false;
    without.look = true;
    CHECK(fails(READER));
    without.look = false;
    without.again = true;
    CHECK(fails(READER));
    without.again = false;
    without.on_again = true;
    CHECK(fails(BOTH_OFF));
    without.on_again = false;
    CHECK(!fails(READER) && !fails(BOTH_OFF));
}

int main(void) {
    seen = calloc(SEEN, sizeof *seen);
    places = calloc(2 * SEEN, sizeof *places);
    CHECK(seen && places);
    RUN(test_a_reader_meets_no_busy_owner);
    RUN(test_a_block_is_taken_once);
    RUN(test_no_slot_is_used_behind_the_back_of_others);
    RUN(test_a_part_left_out_is_noticed);
    free(places);
    free(seen);
    return DONE();
}

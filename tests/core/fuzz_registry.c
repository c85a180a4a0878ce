// fuzz_registry.c - the registry against an array, driven by bytes.          SPDX-License-Identifier: MIT
// Build:   clang -fsanitize=fuzzer,address ... for libFuzzer; or -DFLK_FUZZ_MAIN for a program of its own:
//          fuzz_registry file...   replays    |   fuzz_registry -n count [seed]   runs random inputs
// Input:   4 bytes an operation: what, layer and address, address, size.
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/config.h"
#include "registry/registry.h"
#include "registry/young.h"

#define CHECK(condition)                                               \
    do {                                                               \
        if (!(condition)) {                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, \
                    #condition);                                       \
            abort();                                                   \
        }                                                              \
    } while (0)

enum { MODEL_MAX = 512, MOVES_MAX = 4 };

typedef struct block {
    flk_layer layer;
    uint64_t address, size, sequence;
    bool moving;
} block;

static struct {
    block blocks[MODEL_MAX];
    size_t count;
    uint64_t sequence;
    uint64_t counted;  // by the callbacks: records in the books
} model;

static void on_insert(const flk_record *record, void *context) {
    model.counted += record && !context;
}
static void on_remove(const flk_record *record, void *context) {
    model.counted -= record && !context;
}
static void on_resize(const flk_record *record, void *context) {
    CHECK(record && !context);
}
static void on_gone(const flk_record *record, bool is_replaced) {
    CHECK(!record && is_replaced);  // never
}
static bool judge(const flk_record *record, void *says_yes) {
    return record && says_yes;
}

static block *model_find(flk_layer layer, uint64_t address) {
    for (size_t i = 0; i < model.count; i++) {
        block *b = &model.blocks[i];
        if (b->layer == layer && b->address == address && !b->moving)
            return b;
    }
    return NULL;
}

static void model_remove(block *b) { *b = model.blocks[--model.count]; }

// --- an operation ------------------------------------------------------
typedef struct operation {
    uint8_t what;
    flk_layer layer;
    uint64_t address, size;
} operation;

// Few addresses, near each other at each scale, so that blocks overlap.
static operation decode(const uint8_t *bytes) {
    static const uint8_t scales[8] = {0, 4, 4, 8, 12, 18, 26, 34};
    operation op = {.what = bytes[0] & 15,
                    .layer = (flk_layer)(1 + (bytes[0] >> 4) % 3)};
    op.address = (uint64_t)(bytes[1] & 31) << scales[bytes[1] >> 5];
    op.address += (UINT64_C(1) << 36) + (uint64_t)(bytes[2] & 3) * 8;
    op.size = (uint64_t)(bytes[3] & 15) << scales[bytes[3] >> 5];
    op.size += bytes[2] >> 2;
    op.size &= FLK_SIZE_MAX;
    return op;
}

static void insert(const operation *op) {
    block *old = model_find(op->layer, op->address);
    if (model.count == MODEL_MAX && !old)
        return;
    // Of this thread, inside its guard: so slots of recent blocks are used.
    const flk_thread *self = flk_platform_thread_pointer();
    flk_record record = {.size_bytes = op->size,
                         .sequence = ++model.sequence,
                         .thread = (uint16_t)self->number};
    bool replaced;
    flk_insertion how = {on_insert, on_remove, NULL, &replaced};
    CHECK(flk_registry_insert(op->layer, op->address, &record, how) == FLK_OK);
    CHECK(replaced == (old != NULL));
    if (old)
        model_remove(old);
    model.blocks[model.count++] =
        (block){op->layer, op->address, op->size, model.sequence, false};
}

static void find(const operation *op) {
    flk_record record;
    block *b = model_find(op->layer, op->address);
    CHECK(flk_registry_find(op->layer, op->address, &record) == (b != NULL));
    CHECK(!b ||
          (record.sequence == b->sequence && record.size_bytes == b->size));
}

static void take(const operation *op) {
    flk_record record;
    block *b = model_find(op->layer, op->address);
    void *yes = op->size & 1 ? &model : NULL;
    flk_taken taken =
        flk_registry_take(op->layer, op->address, judge, yes, &record);
    CHECK(taken == (!b ? FLK_ABSENT : yes ? FLK_TAKEN : FLK_KEPT));
    CHECK(!b || record.sequence == b->sequence);
    model.counted -= taken == FLK_TAKEN;
    if (taken == FLK_TAKEN)
        model_remove(b);
}

// Blocks may overlap here, and the nearest one may not be found then: a block
// that is found contains the address, and without overlap it is found.
static void containing(const operation *op) {
    uint64_t address = op->address + op->size / 2;
    flk_entry entry;
    size_t around = 0;
    block *last = NULL;
    for (size_t i = 0; i < model.count; i++) {
        block *b = &model.blocks[i];
        if (b->layer == op->layer && !b->moving && b->address < address &&
            address - b->address < b->size) {
            around++;
            last = b;
        }
    }
    bool found = flk_registry_containing(op->layer, address, &entry);
    CHECK(found == (around > 0));
    CHECK(around != 1 || entry.record.sequence == last->sequence);
    CHECK(!found || (entry.address < address &&
                     address - entry.address < entry.record.size_bytes));
}

static void begin_move(const operation *op) {
    flk_record record;
    block *b = model_find(op->layer, op->address);
    void *yes = op->size & 1 ? &model : NULL;
    flk_taken taken =
        flk_registry_move_begin(op->layer, op->address, judge, yes, &record);
    CHECK(taken == (!b ? FLK_ABSENT : yes ? FLK_TAKEN : FLK_KEPT));
    if (taken == FLK_TAKEN)
        b->moving = true;
}

static block *moving_block(void) {
    for (size_t i = 0; i < model.count; i++)
        if (model.blocks[i].moving)
            return &model.blocks[i];
    return NULL;
}

static void end_move(const operation *op) {
    block *b = moving_block();
    if (!b)
        return;
    flk_record record = {.size_bytes = b->size,
                         .sequence = b->sequence,
                         .flags = FLK_RECORD_MOVING};
    block *old = model_find(b->layer, op->address);
    bool replaced;
    flk_insertion how = {on_resize, on_remove, NULL, &replaced};
    CHECK(flk_registry_move(b->layer, b->address, &record, op->address,
                            op->size, how) == FLK_OK);
    CHECK(replaced == (old != NULL));
    *b = (block){b->layer, op->address, op->size, b->sequence, false};
    if (old)
        model_remove(old);
}

static void cancel_move(void) {
    block *b = moving_block();
    // Only without another block there: the C function failed in place.
    if (!b || model_find(b->layer, b->address))
        return;
    flk_record record = {.size_bytes = b->size, .sequence = b->sequence};
    flk_registry_move_cancel(b->layer, b->address, &record);
    b->moving = false;
}

static void run(const operation *op) {
    if (op->what < 5)
        insert(op);
    else if (op->what < 8)
        take(op);
    else if (op->what < 9)
        find(op);
    else if (op->what < 11)
        containing(op);
    else if (op->what < 13)
        begin_move(op);
    else if (op->what < 15)
        end_move(op);
    else
        cancel_move();
}

// --- one input ---------------------------------------------------------
static void forget(flk_entry *entry, void *context) {
    block *blocks = context;
    blocks[model.counted++] = (block){
        (flk_layer)entry->layer, entry->address, entry->record.size_bytes,
        entry->record.sequence, entry->record.flags & 1};
}

static void compare_and_clear(void) {
    static block seen[MODEL_MAX];
    flk_registry_stats stats;
    flk_registry_read_stats(&stats);
    CHECK(model.counted == model.count && stats.record_count == model.count);
    CHECK(flk_registry_check() && flk_arena_check());
    model.counted = 0;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_shard(i, forget, seen);
    CHECK(model.counted == model.count);
    while (moving_block()) {
        block *b = moving_block();
        operation to = {0, b->layer, b->address, b->size};
        end_move(&to);
    }
    while (model.count > 0) {
        operation op = {0, model.blocks[0].layer, model.blocks[0].address, 1};
        take(&op);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool is_ready;
    if (!is_ready) {
        flk_registry_init();
        flk_young_init(on_gone);
    }
    flk_thread *self = flk_thread_hold();
    CHECK(self != NULL);
    is_ready = true;
    model.sequence = 0;
    for (; size >= 4; data += 4, size -= 4) {
        operation op = decode(data);
        run(&op);
    }
    compare_and_clear();
    flk_thread_let_go(self);
    return 0;
}

#ifdef FLK_FUZZ_MAIN
enum { INPUT_MAX = 4096 };
static uint8_t input[INPUT_MAX];

static void replay(const char *name) {
    FILE *file = fopen(name, "rb");
    CHECK(file != NULL);
    LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof input, file));
    fclose(file);
}

static void run_random(long count, uint64_t state) {
    for (long i = 0; i < count; i++) {
        size_t size = 0;
        for (; size < (size_t)(i % 64 + 1) * 16; size++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            input[size] = (uint8_t)(state >> 24);
        }
        LLVMFuzzerTestOneInput(input, size);
    }
    printf("%ld inputs passed\n", count);
}

int main(int count, char **arguments) {
    if (count > 2 && strcmp(arguments[1], "-n") == 0)
        run_random(atol(arguments[2]),
                   count > 3 ? strtoull(arguments[3], NULL, 10) : 1);
    else
        for (int i = 1; i < count; i++)
            replay(arguments[i]);
    return 0;
}
#endif

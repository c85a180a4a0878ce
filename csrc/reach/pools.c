// pools.c - reads pools of pymalloc. Contract: reach/pools.h.             SPDX-License-Identifier: MIT
#include "reach/pools.h"

#include <string.h>

#include "base/hash.h"
#include "base/platform.h"

// As CPython declares it.
typedef struct pool_header {
    uint64_t live_count;  // a union of unsigned int and pointer
    uint64_t free_block;
    uint64_t next, previous;
    uint32_t arena_index;
    uint32_t size_index;
    uint32_t next_offset;  // of the first block that was never handed out
    uint32_t last_offset;  // the largest that next_offset has
} pool_header;

_Static_assert(sizeof(pool_header) == FLK_POOL_HEAD, "the head of a pool");

enum { SIZES = 32, POOL_BYTES = FLK_PIECE_BYTES };

static bool has_sound_numbers(const pool_header *head, flk_pool *out) {
    if (head->size_index >= SIZES)
        return false;
    uint32_t bytes = (head->size_index + 1) * FLK_POOL_STEP;
    if (head->last_offset != POOL_BYTES - bytes ||
        head->next_offset < FLK_POOL_HEAD + bytes ||
        head->next_offset > POOL_BYTES ||
        (head->next_offset - FLK_POOL_HEAD) % bytes != 0)
        return false;
    out->block_bytes = bytes;
    out->count = (head->next_offset - FLK_POOL_HEAD) / bytes;
    FLK_ASSERT(out->count <= FLK_POOL_BLOCKS_MAX);
    return (uint32_t)head->live_count <= out->count;
}

// Follows the list of free blocks; false if it leaves the pool or has a circle.
static bool mark_free(const char *copy, uintptr_t address, uint64_t link,
                      flk_pool *out, uint32_t *free_count) {
    memset(out->free_bits, 0, sizeof out->free_bits);
    for (*free_count = 0; link; ++*free_count) {
        uint64_t offset = link - address - FLK_POOL_HEAD;
        if (offset >= (uint64_t)out->count * out->block_bytes ||
            offset % out->block_bytes != 0)
            return false;
        uint32_t block = (uint32_t)(offset / out->block_bytes);
        if (flk_pools_is_free(out, block))
            return false;
        out->free_bits[block / 64] |= UINT64_C(1) << block % 64;
        memcpy(&link, copy + FLK_POOL_HEAD + offset, sizeof link);
    }
    return true;
}

bool flk_pools_read(const void *copy, uintptr_t address, flk_pool *out) {
    FLK_ASSERT(copy && out && address % POOL_BYTES == 0);
    pool_header head;
    uint32_t free_count;
    memcpy(&head, copy, sizeof head);
    return has_sound_numbers(&head, out) &&
           mark_free(copy, address, head.free_block, out, &free_count) &&
           free_count + (uint32_t)head.live_count == out->count;
}

// --- objects of known types ------------------------------------------------------
// A hash table of types; an entry with the address 0 is free.
enum { TYPE_PLACES = 2 * FLK_PYTHON_TYPES_MAX };
_Static_assert((TYPE_PLACES & (TYPE_PLACES - 1)) == 0, "a power of two");
static flk_python_type known_types[TYPE_PLACES];
static uintptr_t first_type, code_type;

static flk_python_type *type_at(uint64_t address) {
    uint64_t i = flk_hash_mix(address) % TYPE_PLACES;
    while (known_types[i].address && known_types[i].address != address)
        i = (i + 1) % TYPE_PLACES;
    return &known_types[i];
}

// The sizes of the blocks of Python's allocator that have lists, and deques.
static uint32_t array_owner_bytes[2];

static uint64_t word_of(const void *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static uint32_t block_of(uint32_t bytes) {
    return (bytes + FLK_POOL_STEP - 1) / FLK_POOL_STEP * FLK_POOL_STEP;
}

void flk_pools_set_types(const flk_python_type *types, uint32_t count) {
    FLK_ASSERT(types || count == 0);
    memset(known_types, 0, sizeof known_types);
    memset(array_owner_bytes, 0, sizeof array_owner_bytes);
    first_type = count ? (uintptr_t)types[0].address : 0;
    code_type = 0;
    for (uint32_t i = 0; i < count && i < FLK_PYTHON_TYPES_MAX; i++) {
        *type_at(types[i].address) = types[i];
        if (types[i].kind == FLK_PYTHON_CODE)
            code_type = (uintptr_t)types[i].address;
        if (types[i].kind == FLK_PYTHON_LIST)
            array_owner_bytes[0] = block_of(types[i].bytes);
        if (types[i].kind == FLK_PYTHON_DEQUE)
            array_owner_bytes[1] = block_of(types[i].bytes);
    }
}

// The start of an object: its references, its type; size or first field; then
// for a str its hash and its state.
typedef struct object_head {
    uint64_t references, type;
    int64_t size;
    uint64_t hash;
    uint32_t state;
} object_head;

enum { HEAD_BYTES = 40, REFERENCES_SHIFT_MAX = 40 };

// Whether a number can be that of the references of an object. From CPython 3.14
// on the upper 16 bits are flags.
static bool may_count(uint64_t references) {
    return (references << 16) >> 16 >> REFERENCES_SHIFT_MAX == 0;
}

uintptr_t flk_pools_interpreter(void) { return first_type; }

static bool is_plain(const flk_python_type *type) {
    return type->kind != FLK_PYTHON_NUMBER && type->kind != FLK_PYTHON_TEXT;
}

static uint32_t bytes_of(const flk_python_type *type, const object_head *head) {
    bool is_ascii = (head->state & type->text_mask) == type->text_state;
    if (type->kind == FLK_PYTHON_NUMBER ||
        (type->kind == FLK_PYTHON_TEXT && is_ascii))
        return 0;
    uint64_t size =
        type->item_bytes ? (uint64_t)(head->size < 0 ? 0 : head->size) : 0;
    // Larger objects are read whole.
    if (size > UINT16_MAX)
        return UINT32_MAX;
    return type->bytes + (uint32_t)size * type->item_bytes;
}

// `before` is the distance of the object from the start of the block.
static bool read_object(const char *block, uint32_t block_bytes,
                        uint32_t before, uint32_t *used) {
    object_head head = {0};
    uint32_t left = block_bytes - before;
    memcpy(&head, block + before, left < HEAD_BYTES ? left : HEAD_BYTES);
    const flk_python_type *type = type_at(head.type);
    // A tuple that the interpreter keeps for a later one has no references.
    bool is_counted =
        (head.references != 0 || is_plain(type)) && may_count(head.references);
    if (!type->address || !head.type || type->head_bytes != before ||
        !is_counted)
        return false;
    uint32_t bytes = bytes_of(type, &head);
    bool fits = bytes <= block_bytes && block_bytes - bytes < 2 * FLK_POOL_STEP;
    if (is_plain(type) && !fits)
        return false;
    *used = bytes < block_bytes ? bytes : block_bytes;
    if (type->kind == FLK_PYTHON_FRAME)
        *used = head.references ? block_bytes : 0;
    return true;
}

// The values of an instance's attributes (PyDictValues of CPython 3.11 and 3.12):
// a prefix of whole words, whose last byte is its size. Before that byte are, from
// back to front, the number of values and the place of each. Places without a
// value are 0. If a block ends with a word behind the last place, it is not used.
static bool read_values(const char *block, uint32_t prefix, uint32_t places) {
    const unsigned char *bytes = (const unsigned char *)block + prefix;
    uint32_t count = bytes[-2];
    uint64_t set = 0;
    if (bytes[-1] != prefix || ((places + 2 + 7) & ~7U) != prefix || !count ||
        count > places)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = bytes[-3 - (int)i];
        if (place >= places || set >> place & 1)
            return false;
        set |= UINT64_C(1) << place;
    }
    for (uint32_t i = 0; i < places; i++) {
        uint64_t word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        if ((word != 0) != (set >> i & 1) || word % 8 != 0)
            return false;
    }
    return true;
}

static bool are_values(const char *block, uint32_t block_bytes) {
    enum { WORD = sizeof(uint64_t), PREFIX_MAX = 32 };
    for (uint32_t prefix = WORD;
         prefix <= PREFIX_MAX && prefix + 2 * WORD <= block_bytes;
         prefix += WORD)
        if (read_values(block, prefix, (block_bytes - prefix) / WORD - 1))
            return true;
    return false;
}

// The same in CPython 3.13 and later: a word, of which the first bytes are the
// number of places and of values, the places, and bytes with the order.
typedef struct values_head {
    uint8_t places, count, is_in_object;  // then bytes that may not be set
} values_head;

// What lies behind the last place is not used. 0: these are no values.
static uint32_t values_bytes(const char *block, uint32_t block_bytes) {
    enum { WORD = sizeof(uint64_t), PLACES_MIN = 5, PLACES_MAX = 30 };
    values_head head;
    memcpy(&head, block, sizeof head);
    uint32_t bytes = WORD + head.places * WORD, set = 0;
    if (head.places < PLACES_MIN || head.places > PLACES_MAX ||
        head.count == 0 || head.count > head.places || head.is_in_object ||
        block_of(bytes + head.places) != block_bytes)
        return 0;
    for (uint32_t i = 0; i < head.count; i++) {
        uint32_t place = (unsigned char)block[bytes + i];
        if (place >= head.places || set >> place & 1)
            return 0;
        set |= UINT32_C(1) << place;
    }
    for (uint32_t i = 0; i < head.places; i++) {
        uint64_t word = word_of(block + WORD + i * WORD);
        if ((word != 0) != (set >> i & 1) || word % WORD != 0)
            return 0;
    }
    return bytes;
}

// The start of the keys of a dict (PyDictKeysObject of CPython 3.11 and later). Then
// come the indices, one for each slot, and the entries.
typedef struct keys_head {
    uint64_t references;
    uint8_t log2_slots, log2_index_bytes, kind;  // 0: entries of three words
    uint32_t version;
    int64_t usable, count;  // of entries
} keys_head;

_Static_assert(sizeof(keys_head) == 32, "the head of the keys of a dict");

// -1 is no entry, -2 a deleted one.
static bool are_indices(const signed char *indices, uint32_t slots,
                        int64_t count) {
    for (uint32_t i = 0; i < slots; i++)
        if (indices[i] < -2 || indices[i] >= count)
            return false;
    return true;
}

// The bytes of the keys of a dict with indices of one byte; 0 if it is none.
static uint32_t keys_bytes(const char *block, uint32_t block_bytes) {
    enum { KINDS = 3, LOG2_MIN = 3, LOG2_MAX = 7 };
    keys_head head;
    if (block_bytes < sizeof head)
        return 0;
    memcpy(&head, block, sizeof head);
    if (head.references == 0 || head.references >> REFERENCES_SHIFT_MAX ||
        head.log2_slots < LOG2_MIN || head.log2_slots > LOG2_MAX ||
        head.log2_index_bytes != head.log2_slots || head.kind >= KINDS)
        return 0;
    uint32_t slots = 1U << head.log2_slots, entries = slots * 2 / 3;
    uint32_t bytes = (uint32_t)sizeof head + slots +
                     entries * (head.kind ? 2 : 3) * (uint32_t)sizeof(void *);
    bool fits = bytes <= block_bytes && block_bytes - bytes < FLK_POOL_STEP &&
                head.usable >= 0 && head.count >= 0 && head.usable <= entries &&
                head.count <= entries - head.usable;
    return fits && are_indices((const signed char *)block + sizeof head, slots,
                               head.count)
               ? bytes
               : 0;
}

uint32_t flk_pools_used(const void *block, uint32_t block_bytes) {
    FLK_ASSERT(block && block_bytes >= FLK_POOL_STEP);
    uint32_t used = block_bytes;
    if (read_object(block, block_bytes, 0, &used) ||
        (block_bytes >= 32 && read_object(block, block_bytes, 16, &used)))
        return used;
    uint32_t keys = keys_bytes(block, block_bytes);
    if (keys)
        return keys;
    uint32_t values = values_bytes(block, block_bytes);
    if (values)
        return values;
    bool ends_unused = are_values(block, block_bytes);
    return block_bytes - (ends_unused ? (uint32_t)sizeof(uint64_t) : 0);
}

bool flk_pools_unset(const void *block, uint32_t block_bytes, uint32_t *place) {
    enum { CODE_NUMBER = 184 };  // _co_unique_id, _co_firsttraceable
    FLK_ASSERT(block && place);
    *place = CODE_NUMBER;
    return code_type && block_bytes >= CODE_NUMBER + FLK_POOLS_UNSET_BYTES &&
           word_of((const char *)block + 8) == code_type &&
           may_count(word_of(block));
}

// --- instances of classes ----------------------------------------------------------
// Places of fields in PyTypeObject, and bits of tp_flags: the dict and the weak
// references of an instance may lie before the object. From 3.13 on its values
// may lie behind it.
enum {
    TYPE_BASIC_SIZE = 32,
    TYPE_ITEM_SIZE = 40,
    TYPE_DEALLOC = 48,
    TYPE_FLAGS = 168,
    TYPE_ALLOC = 304
};
enum { HAS_VALUES = 1 << 2, BEFORE_OBJECT = 1 << 3 | 1 << 4 };
enum { IS_HEAP_TYPE = 1 << 9 };
enum { IS_COLLECTED = 1 << 14 };
static uint64_t class_dealloc, class_alloc;

void flk_pools_set_classes(uint64_t dealloc, uint64_t alloc) {
    class_dealloc = dealloc;
    class_alloc = alloc;
}

static uint64_t field(const void *object, uint32_t place) {
    uint64_t word;
    memcpy(&word, (const char *)object + place, sizeof word);
    return word;
}

uintptr_t flk_pools_class_at(const void *block, uint32_t block_bytes,
                             uint32_t before) {
    FLK_ASSERT(block && before % FLK_POOL_STEP == 0);
    if (!class_dealloc || before + FLK_POOL_STEP > block_bytes)
        return 0;
    uint64_t references = field(block, before), type = field(block, before + 8);
    bool may_be = references != 0 && may_count(references) && type % 16 == 0;
    return may_be ? (uintptr_t)type : 0;
}

// Values behind an instance: a word that begins with their number, the values,
// and for each a byte, its place in the order. There may be room for one more.
static uint32_t instance_end(const char *block, uint32_t block_bytes,
                             uint32_t end, bool has_values) {
    enum { WORD = sizeof(uint64_t) };
    uint32_t values = 0, order = 0;
    if (has_values && end < block_bytes) {
        uint32_t count = (unsigned char)block[end];
        values = WORD + count * WORD;
        order = (count + WORD - 1) / WORD * WORD;
    }
    uint32_t bytes = end + values + order;
    bool fits = block_of(bytes) == block_bytes ||
                (values && block_of(bytes + WORD) == block_bytes);
    return fits ? end + values : 0;
}

uint32_t flk_pools_instance_bytes(const void *type, const void *block,
                                  uint32_t block_bytes, uint32_t before) {
    FLK_ASSERT(type && block && class_dealloc);
    uint64_t flags = field(type, TYPE_FLAGS);
    uint32_t head = (flags & IS_COLLECTED ? 16 : 0) +
                    (flags & BEFORE_OBJECT ? 2 * sizeof(void *) : 0);
    bool is_known = flags & IS_HEAP_TYPE && head == before &&
                    field(type, TYPE_DEALLOC) == class_dealloc &&
                    field(type, TYPE_ALLOC) == class_alloc &&
                    field(type, TYPE_ITEM_SIZE) == 0;
    uint64_t bytes = before + field(type, TYPE_BASIC_SIZE);
    if (!is_known || bytes > block_bytes)
        return 0;
    return instance_end(block, block_bytes, (uint32_t)bytes,
                        flags & HAS_VALUES);
}

// --- what objects own --------------------------------------------------------------
// A module: its dict, definition and state behind the head. A definition: the
// size of the state. In 3.15 there is no definition before the state, and the
// module has the size, where the definition had it.
enum { DEFINITION_PLACE = 24, STATE_PLACE = 32, STATE_BYTES_PLACE = 56 };
enum { SIZED_STATE_PLACE = 24 };
// A lock: a pointer behind the head.
enum { LOCK_PLACE = 16 };

static bool may_own(uint32_t kind) {
    return kind == FLK_PYTHON_MODULE || kind == FLK_PYTHON_SIZED_MODULE ||
           kind == FLK_PYTHON_LOCK;
}

uint32_t flk_pools_owner_types(uintptr_t *types) {
    FLK_ASSERT(types);
    uint32_t count = 0;
    for (uint32_t i = 0; i < TYPE_PLACES && count < FLK_POOLS_OWNERS_MAX; i++)
        if (known_types[i].address && may_own(known_types[i].kind))
            types[count++] = (uintptr_t)known_types[i].address;
    return count;
}

static bool own_state(const char *object, flk_small *out) {
    uintptr_t definition = (uintptr_t)word_of(object + DEFINITION_PLACE);
    out->address = (uintptr_t)word_of(object + STATE_PLACE);
    out->used = 0;
    return definition && out->address &&
           word_of((const char *)definition + STATE_BYTES_PLACE) == 0;
}

static bool own_sized_state(const char *object, flk_small *out) {
    out->address = (uintptr_t)word_of(object + SIZED_STATE_PLACE);
    out->used = 0;
    return out->address && word_of(object + STATE_BYTES_PLACE) == 0;
}

static bool own_semaphore(const char *object, flk_small *out) {
    out->address = (uintptr_t)word_of(object + LOCK_PLACE);
    out->used = FLK_SMALL_LOCK;
    return out->address != 0;
}

static bool own(uint32_t kind, const char *object, flk_small *out) {
    if (kind == FLK_PYTHON_LOCK)
        return own_semaphore(object, out);
    return kind == FLK_PYTHON_MODULE ? own_state(object, out)
                                     : own_sized_state(object, out);
}

bool flk_pools_owned(const void *block, uint32_t block_bytes, flk_small *out) {
    FLK_ASSERT(block && block_bytes >= FLK_POOL_STEP && out);
    for (uint32_t before = 0; before <= 16; before += 16) {
        if (block_bytes < before + HEAD_BYTES)
            return false;
        const char *object = (const char *)block + before;
        uint32_t kind = type_at(word_of(object + 8))->kind, used;
        if (may_own(kind) && read_object(block, block_bytes, before, &used) &&
            word_of(object) != 0)
            return own(kind, object, out);
    }
    return false;
}

// --- arrays --------------------------------------------------------------------------
// A list: its size, the array, and the items that this has room for.
enum { LIST_SIZE = 16, LIST_ITEMS = 24, LIST_ROOM = 32 };
// A deque: its size, the first and the last block, and the places of the first
// item and the last one in these. A block is a link, 64 items and a link.
enum {
    DEQUE_SIZE = 16,
    DEQUE_FIRST = 24,
    DEQUE_LAST = 32,
    DEQUE_FIRST_PLACE = 40,
    DEQUE_LAST_PLACE = 48,
    DEQUE_BLOCK_ITEMS = 64,
};
enum { ITEM = sizeof(void *), ROOM_MAX = 1 << 30 };

bool flk_pools_may_own_arrays(const void *pool) {
    pool_header head;
    memcpy(&head, pool, sizeof head);
    uint64_t bytes = ((uint64_t)head.size_index + 1) * FLK_POOL_STEP;
    return bytes == array_owner_bytes[0] || bytes == array_owner_bytes[1];
}

static uint32_t unused_of_list(const char *list, flk_unused *out) {
    uint64_t size = field(list, LIST_SIZE), room = field(list, LIST_ROOM);
    uintptr_t items = (uintptr_t)field(list, LIST_ITEMS);
    if (!items || size >= room || room > ROOM_MAX)
        return 0;
    *out = (flk_unused){items + size * ITEM, items + room * ITEM};
    return 1;
}

static uint32_t unused_of_deque(const char *deque, flk_unused *out) {
    uintptr_t first = (uintptr_t)field(deque, DEQUE_FIRST);
    uintptr_t last = (uintptr_t)field(deque, DEQUE_LAST);
    uint64_t first_place = field(deque, DEQUE_FIRST_PLACE);
    uint64_t last_place = field(deque, DEQUE_LAST_PLACE);
    if (!first || !last || first_place > DEQUE_BLOCK_ITEMS ||
        last_place + 1 > DEQUE_BLOCK_ITEMS)
        return 0;
    // The links that lead out of a deque are not used either.
    out[0] = (flk_unused){first, first + (1 + first_place) * ITEM};
    out[1] = (flk_unused){last + (1 + last_place + 1) * ITEM,
                          last + (1 + DEQUE_BLOCK_ITEMS + 1) * ITEM};
    return 2;
}

uint32_t flk_pools_unused(const void *block, uint32_t block_bytes,
                          flk_unused *out) {
    enum { GC_HEAD = 16 };
    FLK_ASSERT(block && out);
    if (block_bytes < GC_HEAD + HEAD_BYTES)
        return 0;
    const char *object = (const char *)block + GC_HEAD;
    uint32_t kind = type_at(field(object, 8))->kind, used;
    bool is_owner = (kind == FLK_PYTHON_LIST || kind == FLK_PYTHON_DEQUE) &&
                    field(object, 0) != 0 &&
                    read_object(block, block_bytes, GC_HEAD, &used);
    if (!is_owner)
        return 0;
    return kind == FLK_PYTHON_LIST ? unused_of_list(object, out)
                                   : unused_of_deque(object, out);
}

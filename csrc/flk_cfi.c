// flk_cfi.c - from an address to the table of its function. Contract: flk_cfi.h.  SPDX-License-Identifier: MIT
#include "flk_cfi.h"

#ifdef FLK_HAS_ELF
#include "flk_cfi_read.h"

// What linkers write: a table of pairs, each relative to the header.
enum { TABLE_ENCODING = 0x3b, COUNT_ENCODING = 0x03, PAIR_BYTES = 8 };

typedef struct table {
    uintptr_t begin;
    uint32_t count;
} table;

static bool open_table(uintptr_t header, uintptr_t end, table *out) {
    flk_cfi_reader r = {.at = header, .end = end};
    uint8_t version = flk_cfi_u8(&r), pointer = flk_cfi_u8(&r);
    uint8_t count = flk_cfi_u8(&r), pairs = flk_cfi_u8(&r);
    if (version != 1 || count != COUNT_ENCODING || pairs != TABLE_ENCODING)
        return false;
    flk_cfi_pointer(&r, pointer, header);
    out->count = flk_cfi_u32(&r);
    out->begin = r.at;
    return !r.is_spoiled && out->count > 0 &&
           out->count <= (end - r.at) / PAIR_BYTES;
}

uint64_t flk_cfi_header_bytes(uintptr_t header, uintptr_t end) {
    table t;
    return open_table(header, end, &t)
               ? t.begin - header + (uint64_t)t.count * PAIR_BYTES
               : 0;
}

// The pair is two signed words: a function's first address, its entry.
static uintptr_t pair_word(uintptr_t header, const table *t, uint32_t i,
                           unsigned word) {
    int32_t value;
    memcpy(&value, (const void *)(t->begin + (uintptr_t)i * PAIR_BYTES +
                                  word * sizeof value), sizeof value);
    return header + (uintptr_t)(intptr_t)value;
}

// The entry of the last function that begins at or before the address.
static uintptr_t entry_for(uintptr_t header, const table *t,
                           uintptr_t address) {
    uint32_t low = 0, high = t->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pair_word(header, t, middle, 0) <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? 0 : pair_word(header, t, low - 1, 1);
}

// A reader over one entry; `id_at` is where its second word stands.
static bool open_entry(uintptr_t at, uintptr_t begin, uintptr_t end,
                       flk_cfi_reader *out, uintptr_t *id_at, uint32_t *id) {
    if (at < begin || at >= end)
        return false;
    *out = (flk_cfi_reader){.at = at, .end = end};
    uint32_t length = flk_cfi_u32(out);
    if (out->is_spoiled || length < sizeof *id || length > end - out->at)
        return false;
    out->end = out->at + length;
    *id_at = out->at;
    *id = flk_cfi_u32(out);
    return true;
}

// What the entries of functions compiled alike share.
typedef struct common {
    uint8_t encoding;  // of addresses
    bool has_data;     // entries say how much else they hold
} common;

static bool read_augmentation(const char *text, flk_cfi_reader *r,
                              common *out, bool *is_signal) {
    if (*text == '\0')
        return true;
    if (*text != 'z')
        return false;
    out->has_data = true;
    uint64_t bytes = flk_cfi_uleb(r);
    flk_cfi_reader data = *r;
    flk_cfi_skip(r, bytes);
    data.end = r->at;
    for (text++; *text; text++) {
        if (*text == 'R') {
            out->encoding = flk_cfi_u8(&data);
        } else if (*text == 'P') {
            uint8_t encoding = flk_cfi_u8(&data);
            flk_cfi_plain(&data, encoding);
        } else if (*text == 'L') {
            flk_cfi_u8(&data);
        } else if (*text == 'S') {
            *is_signal = true;
        } else if (*text != 'B' && *text != 'G') {
            return false;  // what follows in `data` is not known
        }
    }
    return !data.is_spoiled;
}

static bool read_common(uintptr_t at, uintptr_t begin, uintptr_t end,
                        common *out, flk_cfi_code *code) {
    enum { AUGMENTATION_MAX = 8 };
    flk_cfi_reader r;
    uintptr_t id_at;
    uint32_t id;
    if (!open_entry(at, begin, end, &r, &id_at, &id) || id != 0)
        return false;
    uint8_t version = flk_cfi_u8(&r);
    char text[AUGMENTATION_MAX] = "";
    size_t length = 0;
    do
        text[length] = (char)flk_cfi_u8(&r);
    while (text[length] && ++length < AUGMENTATION_MAX);
    if ((version != 1 && version != 3) || length == AUGMENTATION_MAX)
        return false;
    code->code_factor = flk_cfi_uleb(&r);
    code->data_factor = flk_cfi_sleb(&r);
    code->return_register = version == 1 ? flk_cfi_u8(&r) : flk_cfi_uleb(&r);
    *out = (common){.encoding = FLK_CFI_ABSOLUTE};
    if (!read_augmentation(text, &r, out, &code->is_signal))
        return false;
    code->initial = r;
    return !r.is_spoiled;
}

bool flk_cfi_find(uintptr_t header, uintptr_t begin, uintptr_t end,
                  uintptr_t address, flk_cfi_rule *out) {
    table t;
    if (header < begin || header >= end || !open_table(header, end, &t))
        return false;
    flk_cfi_reader r;
    uintptr_t id_at;
    uint32_t id;
    uintptr_t entry = entry_for(header, &t, address);
    if (!open_entry(entry, begin, end, &r, &id_at, &id) || id == 0)
        return false;
    common shared;
    flk_cfi_code code = {.address = address};
    if (!read_common(id_at - id, begin, end, &shared, &code))
        return false;
    code.first = flk_cfi_pointer(&r, shared.encoding, 0);
    uint64_t length = flk_cfi_plain(&r, shared.encoding);
    if (shared.has_data)
        flk_cfi_skip(&r, flk_cfi_uleb(&r));
    if (r.is_spoiled || address < code.first ||
        address - code.first >= length)
        return false;
    code.own = r;
    return flk_cfi_run(&code, out);
}
#endif

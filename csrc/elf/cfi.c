// cfi.c - finds the table of a function and runs its instructions. Contract: elf/cfi.h. SPDX-License-Identifier: MIT
#include "elf/cfi.h"

#ifdef FLK_HAS_ELF
#include "elf/cfi_read.h"

// The encodings that linkers write: a table of pairs of signed 32-bit words,
// relative to the header.
enum { TABLE_ENCODING = 0x3b, COUNT_ENCODING = 0x03, PAIR_BYTES = 8 };

typedef struct table {
    uintptr_t begin;
    uint32_t count;
} table;

static bool open_table(uintptr_t header, uintptr_t end, table *out) {
    FLK_ASSERT(header <= end);
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
    FLK_ASSERT(header <= end);
    table t;
    return open_table(header, end, &t)
               ? t.begin - header + (uint64_t)t.count * PAIR_BYTES
               : 0;
}

// Word 0 of a pair is a function's first address, word 1 its entry (FDE).
static uintptr_t pair_word(uintptr_t header, const table *t, uint32_t i,
                           unsigned word) {
    FLK_ASSERT(i < t->count && word < 2);
    int32_t value;
    memcpy(&value,
           (const void *)(t->begin + (uintptr_t)i * PAIR_BYTES +
                          word * sizeof value),
           sizeof value);
    return header + (uintptr_t)(intptr_t)value;
}

// The entry of the last function that begins at or before the address; 0 if
// there is none.
static uintptr_t entry_for(uintptr_t header, const table *t,
                           uintptr_t address) {
    FLK_ASSERT(t->count > 0);
    uint32_t low = 0, high = t->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pair_word(header, t, middle, 0) <= address)
            low = middle + 1;
        else
            high = middle;
    }
    FLK_ASSERT(low <= t->count);
    return low == 0 ? 0 : pair_word(header, t, low - 1, 1);
}

// Opens a reader of one entry. `id_at` receives the address of its second word,
// `id` that word.
static bool open_entry(uintptr_t at, uintptr_t begin, uintptr_t end,
                       flk_cfi_reader *out, uintptr_t *id_at, uint32_t *id) {
    FLK_ASSERT(begin <= end);
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

// The part (CIE) that entries of functions compiled alike share.
typedef struct common {
    uint8_t encoding;  // of addresses
    bool has_data;     // entries hold the length of further data
} common;

static bool read_augmentation(const char *text, flk_cfi_reader *r, common *out,
                              bool *is_signal) {
    FLK_ASSERT(!out->has_data);
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
            return false;  // the layout of the rest of `data` is unknown
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
    FLK_ASSERT(begin <= end && out);
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
    if (r.is_spoiled || address < code.first || address - code.first >= length)
        return false;
    code.own = r;
    return flk_cfi_run(&code, out);
}

// --- the instructions of a function's table ----------------------------
#if defined(__x86_64__)
enum { REGISTER_SP = 7, REGISTER_FP = 6 };
#else
enum { REGISTER_SP = 31, REGISTER_FP = 29 };
#endif

// DWARF 5, 7.24 (call frame instructions) and 7.7.1 (expressions).
enum {
    ADVANCE = 0x40,
    OFFSET = 0x80,
    RESTORE = 0xc0,
    HIGH_BITS = 0xc0,
    NOP = 0x00,
    SET_LOC = 0x01,
    ADVANCE_1 = 0x02,
    ADVANCE_2 = 0x03,
    ADVANCE_4 = 0x04,
    OFFSET_EXTENDED = 0x05,
    RESTORE_EXTENDED = 0x06,
    UNDEFINED = 0x07,
    SAME_VALUE = 0x08,
    REGISTER = 0x09,
    REMEMBER = 0x0a,
    RECALL = 0x0b,
    DEF_CFA = 0x0c,
    DEF_CFA_REGISTER = 0x0d,
    DEF_CFA_OFFSET = 0x0e,
    DEF_CFA_EXPRESSION = 0x0f,
    EXPRESSION = 0x10,
    OFFSET_EXTENDED_SF = 0x11,
    DEF_CFA_SF = 0x12,
    DEF_CFA_OFFSET_SF = 0x13,
    VAL_OFFSET = 0x14,
    VAL_OFFSET_SF = 0x15,
    VAL_EXPRESSION = 0x16,
    NEGATE_RA_STATE = 0x2d,
    ARGS_SIZE = 0x2e,
    OP_BREG0 = 0x70,
    OP_BREG31 = 0x8f,
    OP_DEREF = 0x06,
};

// How the value of a register in the caller is found.
typedef enum how {
    UNTOUCHED,  // no instruction named it
    SAME,       // unchanged
    GONE,       // undefined: the end of the stack
    SAVED,      // in memory at `from` + `offset`
    STRANGE,    // not understood
} how;

typedef struct saved {
    uint8_t how, from;
    int64_t offset;
} saved;

typedef struct row {
    uint8_t cfa_how, cfa_from;  // SAVED: register + offset; or STRANGE
    bool is_cfa_loaded, is_signed;
    int64_t cfa_offset;
    saved fp, ra;
} row;

enum { ROWS_MAX = 8 };

typedef struct machine {
    const flk_cfi_code *code;
    uintptr_t location;
    row now, initial, kept[ROWS_MAX];
    unsigned kept_count;
} machine;

// --- registers ---------------------------------------------------------
// The rule of a register, or NULL: only two are of interest.
static saved *register_at(row *r, const flk_cfi_code *code, uint64_t number) {
    if (number == code->return_register)
        return &r->ra;
    return number == REGISTER_FP ? &r->fp : NULL;
}

static void set(machine *m, uint64_t number, saved value) {
    FLK_ASSERT(value.how <= STRANGE);
    saved *place = register_at(&m->now, m->code, number);
    if (place)
        *place = value;
}

static void restore(machine *m, uint64_t number) {
    FLK_ASSERT(m->kept_count <= ROWS_MAX);
    saved *place = register_at(&m->now, m->code, number);
    if (place)
        *place = *register_at(&m->initial, m->code, number);
}

static void save_at(machine *m, uint64_t number, int64_t factored) {
    set(m, number,
        (saved){SAVED, FLK_CFI_CFA, factored * m->code->data_factor});
}

static void cfa_register(machine *m, uint64_t number) {
    FLK_ASSERT(m->code != NULL);
    m->now.is_cfa_loaded = false;
    m->now.cfa_how =
        number == REGISTER_SP || number == REGISTER_FP ? SAVED : STRANGE;
    m->now.cfa_from = number == REGISTER_SP ? FLK_CFI_SP : FLK_CFI_FP;
}

// --- expressions -------------------------------------------------------
// Reads the expressions that compilers write for realigned stacks and the C
// library for signal handlers: a register plus a number, optionally followed by
// loading the word there (`is_loaded`). Anything else is STRANGE.
static saved expression(flk_cfi_reader *r, bool *is_loaded) {
    uint64_t bytes = flk_cfi_uleb(r);
    flk_cfi_reader e = *r;
    flk_cfi_skip(r, bytes);
    e.end = r->at;
    uint8_t op = flk_cfi_u8(&e);
    unsigned number = op - OP_BREG0;
    saved value = {SAVED, FLK_CFI_SP, flk_cfi_sleb(&e)};
    if (number == REGISTER_FP)
        value.from = FLK_CFI_FP;
    if (op < OP_BREG0 || op > OP_BREG31 ||
        (number != REGISTER_FP && number != REGISTER_SP))
        value.how = STRANGE;
    *is_loaded = e.at < e.end && flk_cfi_u8(&e) == OP_DEREF;
    if (e.is_spoiled || e.at != e.end)
        value.how = STRANGE;
    return value;
}

static void cfa_expression(machine *m, flk_cfi_reader *r) {
    bool is_loaded;
    saved value = expression(r, &is_loaded);
    m->now.cfa_how = value.how;
    m->now.cfa_from = value.from;
    m->now.cfa_offset = value.offset;
    m->now.is_cfa_loaded = is_loaded;
    FLK_ASSERT(value.how == SAVED || value.how == STRANGE);
}

static void register_expression(machine *m, flk_cfi_reader *r) {
    uint64_t number = flk_cfi_uleb(r);
    bool is_loaded;
    saved value = expression(r, &is_loaded);
    if (is_loaded)
        value.how = STRANGE;
    set(m, number, value);
}

// --- instructions ------------------------------------------------------
static void define_cfa(machine *m, uint8_t op, flk_cfi_reader *r) {
    FLK_ASSERT(op >= DEF_CFA && op <= DEF_CFA_OFFSET_SF);
    if (op == DEF_CFA || op == DEF_CFA_SF || op == DEF_CFA_REGISTER)
        cfa_register(m, flk_cfi_uleb(r));
    if (op == DEF_CFA || op == DEF_CFA_OFFSET)
        m->now.cfa_offset = (int64_t)flk_cfi_uleb(r);
    else if (op == DEF_CFA_SF || op == DEF_CFA_OFFSET_SF)
        m->now.cfa_offset = flk_cfi_sleb(r) * m->code->data_factor;
}

// Skips the operands of an instruction that is not understood.
static void strange_value(machine *m, uint8_t op, flk_cfi_reader *r) {
    FLK_ASSERT(op == REGISTER || (op >= VAL_OFFSET && op <= VAL_EXPRESSION));
    uint64_t number = flk_cfi_uleb(r);
    if (op == VAL_EXPRESSION)
        flk_cfi_skip(r, flk_cfi_uleb(r));
    else
        flk_cfi_uleb(r);
    set(m, number, (saved){.how = STRANGE});
}

// Pushes the row, or pops it. False: the stack of rows is full, or empty.
static bool keep_or_recall(machine *m, bool keeps) {
    FLK_ASSERT(m->kept_count <= ROWS_MAX);
    if (keeps ? m->kept_count == ROWS_MAX : m->kept_count == 0)
        return false;
    if (keeps)
        m->kept[m->kept_count++] = m->now;
    else
        m->now = m->kept[--m->kept_count];
    return true;
}

// False: not understood.
static bool run_other(machine *m, uint8_t op, flk_cfi_reader *r) {
    FLK_ASSERT((op & HIGH_BITS) == 0);
    uint64_t number;
    switch (op) {
    case NOP:
        return true;
    case OFFSET_EXTENDED:
        number = flk_cfi_uleb(r);
        save_at(m, number, (int64_t)flk_cfi_uleb(r));
        return true;
    case OFFSET_EXTENDED_SF:
        number = flk_cfi_uleb(r);
        save_at(m, number, flk_cfi_sleb(r));
        return true;
    case RESTORE_EXTENDED:
        restore(m, flk_cfi_uleb(r));
        return true;
    case UNDEFINED:
        set(m, flk_cfi_uleb(r), (saved){.how = GONE});
        return true;
    case SAME_VALUE:
        set(m, flk_cfi_uleb(r), (saved){.how = SAME});
        return true;
    case REMEMBER:
    case RECALL:
        return keep_or_recall(m, op == REMEMBER);
    case DEF_CFA:
    case DEF_CFA_SF:
    case DEF_CFA_REGISTER:
    case DEF_CFA_OFFSET:
    case DEF_CFA_OFFSET_SF:
        define_cfa(m, op, r);
        return true;
    case DEF_CFA_EXPRESSION:
        cfa_expression(m, r);
        return true;
    case EXPRESSION:
        register_expression(m, r);
        return true;
    case REGISTER:
    case VAL_OFFSET:
    case VAL_OFFSET_SF:
    case VAL_EXPRESSION:
        strange_value(m, op, r);
        return true;
    case NEGATE_RA_STATE:
        m->now.is_signed = !m->now.is_signed;
        return true;
    case ARGS_SIZE:
        flk_cfi_uleb(r);
        return true;
    default:
        return false;
    }
}

// Moves the location of the row. False: `op` is another instruction.
static bool advance(machine *m, uint8_t op, flk_cfi_reader *r) {
    uint64_t steps;
    if ((op & HIGH_BITS) == ADVANCE)
        steps = op & ~HIGH_BITS;
    else if (op == ADVANCE_1)
        steps = flk_cfi_u8(r);
    else if (op == ADVANCE_2)
        steps = flk_cfi_u16(r);
    else if (op == ADVANCE_4)
        steps = flk_cfi_u32(r);
    else
        return false;
    m->location += (uintptr_t)(steps * m->code->code_factor);
    return true;
}

// Runs instructions until the row of the address. False: not understood.
static bool run(machine *m, flk_cfi_reader r) {
    FLK_ASSERT(m->location <= m->code->address);
    while (r.at < r.end && !r.is_spoiled) {
        uint8_t op = flk_cfi_u8(&r);
        unsigned low = op & ~HIGH_BITS;
        if (advance(m, op, &r)) {
            if (m->location > m->code->address)
                return !r.is_spoiled;
        } else if ((op & HIGH_BITS) == OFFSET) {
            save_at(m, low, (int64_t)flk_cfi_uleb(&r));
        } else if ((op & HIGH_BITS) == RESTORE) {
            restore(m, low);
        } else if (!run_other(m, op, &r)) {
            return false;
        }
    }
    return !r.is_spoiled;
}

// --- the result --------------------------------------------------------
static bool fits(int64_t offset) { return offset == (int32_t)offset; }

static bool rule_of(const row *r, bool is_signal, flk_cfi_rule *out) {
    FLK_ASSERT(r->fp.how <= STRANGE && r->ra.how <= STRANGE);
    *out = (flk_cfi_rule){.flags = is_signal ? FLK_CFI_SIGNAL : 0};
    if (r->ra.how == GONE) {
        out->flags |= FLK_CFI_END;
        return true;
    }
    if (r->cfa_how != SAVED || r->ra.how != SAVED || r->fp.how == STRANGE ||
        !fits(r->cfa_offset) || !fits(r->ra.offset) || !fits(r->fp.offset))
        return false;
    out->cfa_from = r->cfa_from;
    out->cfa_offset = (int32_t)r->cfa_offset;
    out->return_from = r->ra.from;
    out->return_offset = (int32_t)r->ra.offset;
    out->fp_from = r->fp.how == SAVED ? r->fp.from : FLK_CFI_SAME;
    out->fp_offset = (int32_t)r->fp.offset;
    out->flags |= r->is_cfa_loaded ? FLK_CFI_LOADED : 0;
    out->flags |= r->is_signed ? FLK_CFI_SIGNED : 0;
    return true;
}

bool flk_cfi_run(const flk_cfi_code *code, flk_cfi_rule *out) {
    FLK_ASSERT(code->address >= code->first);
    machine m = {.code = code, .now.cfa_how = STRANGE};
    if (!run(&m, code->initial))
        return false;
    m.initial = m.now;
    m.location = code->first;
    return run(&m, code->own) && rule_of(&m.now, code->is_signal, out);
}
#endif

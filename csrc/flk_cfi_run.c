// flk_cfi_run.c - runs the instructions of a function's table. Contract: flk_cfi.h.  SPDX-License-Identifier: MIT
#include "flk_cfi_read.h"

#ifdef FLK_HAS_ELF
#if defined(__x86_64__)
enum { REGISTER_SP = 7, REGISTER_FP = 6 };
#else
enum { REGISTER_SP = 31, REGISTER_FP = 29 };
#endif

// DWARF 5, 7.24 (call frame instructions) and 7.7.1 (expressions).
enum {
    ADVANCE = 0x40, OFFSET = 0x80, RESTORE = 0xc0, HIGH_BITS = 0xc0,
    NOP = 0x00, SET_LOC = 0x01, ADVANCE_1 = 0x02, ADVANCE_2 = 0x03,
    ADVANCE_4 = 0x04, OFFSET_EXTENDED = 0x05, RESTORE_EXTENDED = 0x06,
    UNDEFINED = 0x07, SAME_VALUE = 0x08, REGISTER = 0x09, REMEMBER = 0x0a,
    RECALL = 0x0b, DEF_CFA = 0x0c, DEF_CFA_REGISTER = 0x0d,
    DEF_CFA_OFFSET = 0x0e, DEF_CFA_EXPRESSION = 0x0f, EXPRESSION = 0x10,
    OFFSET_EXTENDED_SF = 0x11, DEF_CFA_SF = 0x12, DEF_CFA_OFFSET_SF = 0x13,
    VAL_OFFSET = 0x14, VAL_OFFSET_SF = 0x15, VAL_EXPRESSION = 0x16,
    NEGATE_RA_STATE = 0x2d, ARGS_SIZE = 0x2e,
    OP_BREG0 = 0x70, OP_BREG31 = 0x8f, OP_DEREF = 0x06,
};

// How one register of the caller is found again.
typedef enum how {
    UNTOUCHED,  // nothing was said
    SAME,
    GONE,       // there is none: the end of the stack
    SAVED,      // at `from` + offset
    STRANGE,    // not understood
} how;

typedef struct saved {
    uint8_t how, from;
    int64_t offset;
} saved;

typedef struct row {
    uint8_t cfa_how, cfa_from;  // SAVED: a plain sum; STRANGE
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
static saved *register_at(row *r, const flk_cfi_code *code, uint64_t number) {
    if (number == code->return_register)
        return &r->ra;
    return number == REGISTER_FP ? &r->fp : NULL;
}

static void set(machine *m, uint64_t number, saved value) {
    saved *place = register_at(&m->now, m->code, number);
    if (place)
        *place = value;
}

static void restore(machine *m, uint64_t number) {
    saved *place = register_at(&m->now, m->code, number);
    if (place)
        *place = *register_at(&m->initial, m->code, number);
}

static void save_at(machine *m, uint64_t number, int64_t factored) {
    set(m, number, (saved){SAVED, FLK_CFI_CFA,
                           factored * m->code->data_factor});
}

static void cfa_register(machine *m, uint64_t number) {
    m->now.is_cfa_loaded = false;
    m->now.cfa_how = number == REGISTER_SP || number == REGISTER_FP
                         ? SAVED
                         : STRANGE;
    m->now.cfa_from = number == REGISTER_SP ? FLK_CFI_SP : FLK_CFI_FP;
}

// --- expressions -------------------------------------------------------
// A register plus a number, and maybe the word there: what compilers write
// for realigned stacks, and the C library for signal handlers.
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
    if (op == DEF_CFA || op == DEF_CFA_SF || op == DEF_CFA_REGISTER)
        cfa_register(m, flk_cfi_uleb(r));
    if (op == DEF_CFA || op == DEF_CFA_OFFSET)
        m->now.cfa_offset = (int64_t)flk_cfi_uleb(r);
    else if (op == DEF_CFA_SF || op == DEF_CFA_OFFSET_SF)
        m->now.cfa_offset = flk_cfi_sleb(r) * m->code->data_factor;
}

static void strange_value(machine *m, uint8_t op, flk_cfi_reader *r) {
    uint64_t number = flk_cfi_uleb(r);
    if (op == VAL_EXPRESSION)
        flk_cfi_skip(r, flk_cfi_uleb(r));
    else
        flk_cfi_uleb(r);
    set(m, number, (saved){.how = STRANGE});
}

// False: not understood.
static bool keep_or_recall(machine *m, bool keeps) {
    if (keeps ? m->kept_count == ROWS_MAX : m->kept_count == 0)
        return false;
    if (keeps)
        m->kept[m->kept_count++] = m->now;
    else
        m->now = m->kept[--m->kept_count];
    return true;
}

static bool run_other(machine *m, uint8_t op, flk_cfi_reader *r) {
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

// Moves the location of the row; false: `op` does something else.
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

// Until the row of the address; false: not understood.
static bool run(machine *m, flk_cfi_reader r) {
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
    machine m = {.code = code, .now.cfa_how = STRANGE};
    if (!run(&m, code->initial))
        return false;
    m.initial = m.now;
    m.location = code->first;
    return run(&m, code->own) && rule_of(&m.now, code->is_signal, out);
}
#endif

// cfi_read.h - reads numbers and pointers of .eh_frame with bounds checks. SPDX-License-Identifier: MIT
// Keeps:   nothing. A reader that would leave its range becomes spoiled: it returns zeros from then on.
// Cost:    inline; O(1) a number.
// Callers: elf/cfi.c.
// Source:  LSB Core, "DWARF Exception Header Encoding"; DWARF 5, 7.6 (LEB128).
#ifndef FLK_CFI_READ_H
#define FLK_CFI_READ_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "elf/cfi.h"

#ifdef FLK_HAS_ELF
typedef struct flk_cfi_reader {
    uintptr_t at, end;
    bool is_spoiled;
} flk_cfi_reader;

static inline void flk_cfi_take(flk_cfi_reader *r, void *out, size_t bytes) {
    FLK_ASSERT(bytes > 0 && bytes <= sizeof(uint64_t));
    if (r->is_spoiled || r->end < r->at || r->end - r->at < bytes) {
        r->is_spoiled = true;
        memset(out, 0, bytes);
        return;
    }
    memcpy(out, (const void *)r->at, bytes);
    r->at += bytes;
}

static inline uint8_t flk_cfi_u8(flk_cfi_reader *r) {
    uint8_t value;
    flk_cfi_take(r, &value, sizeof value);
    return value;
}

static inline uint16_t flk_cfi_u16(flk_cfi_reader *r) {
    uint16_t value;
    flk_cfi_take(r, &value, sizeof value);
    return value;
}

static inline uint32_t flk_cfi_u32(flk_cfi_reader *r) {
    uint32_t value;
    flk_cfi_take(r, &value, sizeof value);
    return value;
}

static inline uint64_t flk_cfi_u64(flk_cfi_reader *r) {
    uint64_t value;
    flk_cfi_take(r, &value, sizeof value);
    return value;
}

static inline uint64_t flk_cfi_leb(flk_cfi_reader *r, bool is_signed) {
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = flk_cfi_u8(r);
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80 && !r->is_spoiled);
    if (is_signed && byte & 0x40 && shift < 64)
        value |= ~UINT64_C(0) << shift;
    return value;
}

static inline uint64_t flk_cfi_uleb(flk_cfi_reader *r) {
    return flk_cfi_leb(r, false);
}

static inline int64_t flk_cfi_sleb(flk_cfi_reader *r) {
    return (int64_t)flk_cfi_leb(r, true);
}

static inline void flk_cfi_skip(flk_cfi_reader *r, uint64_t bytes) {
    if (r->is_spoiled || r->end < r->at || bytes > r->end - r->at)
        r->is_spoiled = true;
    else
        r->at += bytes;
}

enum {
    FLK_CFI_FORMAT = 0x0f,
    FLK_CFI_ABSOLUTE = 0x00,
    FLK_CFI_SIGNED_BIT = 0x08,
    FLK_CFI_PCREL = 0x10,
    FLK_CFI_DATAREL = 0x30,
    FLK_CFI_OMIT = 0xff,
};

// A pointer as it is encoded, without the base it is relative to.
static inline uint64_t flk_cfi_plain(flk_cfi_reader *r, uint8_t encoding) {
    switch (encoding & FLK_CFI_FORMAT) {
    case 0x01:
        return flk_cfi_uleb(r);
    case 0x09:
        return (uint64_t)flk_cfi_sleb(r);
    case 0x02:
        return flk_cfi_u16(r);
    case 0x0a:
        return (uint64_t)(int64_t)(int16_t)flk_cfi_u16(r);
    case 0x03:
        return flk_cfi_u32(r);
    case 0x0b:
        return (uint64_t)(int64_t)(int32_t)flk_cfi_u32(r);
    case 0x00:
    case 0x04:
    case 0x0c:
        return flk_cfi_u64(r);
    default:
        r->is_spoiled = true;
        return 0;
    }
}

// An address. `data` is the base of data-relative pointers.
static inline uintptr_t flk_cfi_pointer(flk_cfi_reader *r, uint8_t encoding,
                                        uintptr_t data) {
    uintptr_t here = r->at;
    uintptr_t value = (uintptr_t)flk_cfi_plain(r, encoding);
    switch (encoding & 0xf0) {
    case FLK_CFI_ABSOLUTE:
        return value;
    case FLK_CFI_PCREL:
        return here + value;
    case FLK_CFI_DATAREL:
        return data + value;
    default:
        r->is_spoiled = true;
        return 0;
    }
}

// --- the instructions of a function's table ----------------------------
typedef struct flk_cfi_code {
    uint64_t code_factor;
    int64_t data_factor;
    uint64_t return_register;
    uintptr_t first, address;     // of the function; inside the instruction
    flk_cfi_reader initial, own;  // shared instructions, then its own ones
    bool is_signal;
} flk_cfi_code;
// Runs the instructions up to the address. False: not understood.
bool flk_cfi_run(const flk_cfi_code *code, flk_cfi_rule *out);
#endif
#endif

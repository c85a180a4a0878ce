// guard.c - guard and poison patterns. Contract: tracker/guard.h.            SPDX-License-Identifier: MIT
#include "tracker/guard.h"

#include <string.h>

enum { GUARD_BYTE = 0xFD, POISON_BYTE = 0xDD };

static void damage_at(int64_t offset, int32_t *damage) {
    *damage = offset > INT32_MAX   ? INT32_MAX
              : offset < INT32_MIN ? INT32_MIN
                                   : (int32_t)offset;
}

static bool bytes_are(const unsigned char *bytes, size_t count,
                      unsigned char value, size_t *where) {
    for (*where = 0; *where < count; ++*where)
        if (bytes[*where] != value)
            return false;
    return true;
}

void flk_guard_fill(void *block, size_t size_bytes, size_t guard_bytes) {
    memset((char *)block - guard_bytes, GUARD_BYTE, guard_bytes);
    memset((char *)block + size_bytes, GUARD_BYTE, guard_bytes);
}

bool flk_guard_check(const void *block, size_t size_bytes, size_t guard_bytes,
                     int32_t *damage) {
    const unsigned char *start = block;
    size_t where;
    if (!bytes_are(start - guard_bytes, guard_bytes, GUARD_BYTE, &where)) {
        damage_at((int64_t)where - (int64_t)guard_bytes, damage);
        return false;
    }
    if (!bytes_are(start + size_bytes, guard_bytes, GUARD_BYTE, &where)) {
        damage_at((int64_t)(size_bytes + where), damage);
        return false;
    }
    return true;
}

void flk_guard_poison_fill(void *block, size_t size_bytes) {
    memset(block, POISON_BYTE, size_bytes);
}

bool flk_guard_poison_check(const void *block, size_t size_bytes,
                            int32_t *damage) {
    size_t where;
    if (bytes_are(block, size_bytes, POISON_BYTE, &where))
        return true;
    damage_at((int64_t)where, damage);
    return false;
}

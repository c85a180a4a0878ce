// queue.h - entries of one size, first in, first out.                    SPDX-License-Identifier: MIT
// Keeps:   a ring in mapped pages. It doubles when it is full, and is unmapped when it runs empty after it grew.
// Cost:    O(1): a copy of the entry. Growing copies all entries. Nothing is mapped before the first push.
// Callers: under the lock of the owner.
// Fails:   push returns false at the limit or without memory. The queue is unchanged and the caller counts a drop.
// Invariant: first <= next; next - first <= capacity; capacity is 0 or a power of two.
#ifndef FLK_QUEUE_H
#define FLK_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct flk_queue {
    size_t entry_bytes;    // constant
    uint32_t entries_max;  // constant, a power of two
    uint32_t capacity;     // entries
    uint64_t first, next;  // running numbers of the oldest and the next entry
    char *entries;
} flk_queue;

bool flk_queue_push(flk_queue *queue, const void *entry);
// Returns false if the queue is empty.
bool flk_queue_pop(flk_queue *queue, void *out);
// Forgets all entries and unmaps the ring.
void flk_queue_clear(flk_queue *queue);
static inline uint64_t flk_queue_count(const flk_queue *queue) {
    return queue->next - queue->first;
}

#endif

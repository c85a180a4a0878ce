// queue.c - a ring that grows. Contract: base/queue.h.                    SPDX-License-Identifier: MIT
#include "base/queue.h"

#include <string.h>

#include "base/platform.h"

enum { ENTRIES_MIN = 64 };

static size_t bytes_of(const flk_queue *queue, uint32_t capacity) {
    FLK_ASSERT((capacity & (capacity - 1)) == 0);
    return flk_platform_pages_for(capacity * queue->entry_bytes);
}

static char *entry_at(const flk_queue *queue, uint64_t number) {
    FLK_ASSERT(queue->capacity > 0);
    return queue->entries +
           (number & (queue->capacity - 1)) * queue->entry_bytes;
}

void flk_queue_clear(flk_queue *queue) {
    FLK_ASSERT(!queue->entries == !queue->capacity);
    if (queue->entries)
        flk_platform_pages_unmap(queue->entries,
                                 bytes_of(queue, queue->capacity));
    queue->entries = NULL;
    queue->capacity = 0;
    queue->first = queue->next = 0;
}

static bool grow(flk_queue *queue) {
    FLK_ASSERT(flk_queue_count(queue) == queue->capacity);
    uint32_t capacity = queue->capacity ? queue->capacity * 2 : ENTRIES_MIN;
    if (capacity > queue->entries_max)
        return false;
    char *grown = flk_platform_pages_map(bytes_of(queue, capacity),
                                         flk_platform_page_bytes());
    if (!grown)
        return false;
    uint64_t count = flk_queue_count(queue);
    for (uint64_t i = 0; i < count; i++)
        memcpy(grown + i * queue->entry_bytes,
               entry_at(queue, queue->first + i), queue->entry_bytes);
    flk_queue_clear(queue);
    queue->entries = grown;
    queue->capacity = capacity;
    queue->next = count;
    return true;
}

bool flk_queue_push(flk_queue *queue, const void *entry) {
    FLK_ASSERT(queue->entry_bytes > 0 && queue->first <= queue->next);
    if (flk_queue_count(queue) == queue->capacity && !grow(queue))
        return false;
    memcpy(entry_at(queue, queue->next++), entry, queue->entry_bytes);
    FLK_ASSERT(flk_queue_count(queue) <= queue->capacity);
    return true;
}

bool flk_queue_pop(flk_queue *queue, void *out) {
    FLK_ASSERT(queue->first <= queue->next);
    if (flk_queue_count(queue) == 0)
        return false;
    memcpy(out, entry_at(queue, queue->first++), queue->entry_bytes);
    if (flk_queue_count(queue) == 0 && queue->capacity > ENTRIES_MIN)
        flk_queue_clear(queue);  // returns the memory that a burst took
    return true;
}

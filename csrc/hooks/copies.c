// copies.c - searches writable data, word by word. Contract: hooks/copies.h.    SPDX-License-Identifier: MIT
// A word of 64 bits that equals the address of malloc is no coincidence.
#include "hooks/copies.h"

#ifdef FLK_HAS_ELF
#include "base/config.h"
#include "elf/maps.h"
#include "elf/pages.h"
#include "hooks/providers.h"
#include "hooks/stubs.h"

typedef struct data_range {
    uintptr_t begin, end;
    flk_slots_policy policy;
} data_range;

// A function's address, which copies may hold.
typedef struct known {
    uintptr_t address;
    uint16_t function;
    uint8_t provider;
} known;

enum {
    KNOWN_MAX = (FLK_PROVIDERS_MAX + 1) * FLK_FN_COUNT,
    SPANS = FLK_PROVIDERS_MAX + 2,  // of each provider, the program, the stubs
};

typedef struct span {
    uintptr_t first, last;  // empty: UINTPTR_MAX, 0
} span;

// Under FLK_RANK_ATTACH, so consistent in the child of a fork.
static struct {
    uint32_t range_count, known_count;
    data_range ranges[FLK_COPIES_RANGES_MAX];  // by rising address
    known known[KNOWN_MAX];                    // by rising address
    span spans[SPANS], whole;
    flk_copies_counts counts;
    flk_pages pages;
} copies;

// --- ranges ------------------------------------------------------------
void flk_copies_begin(void) {
    copies.range_count = 0;
    copies.counts = (flk_copies_counts){.hooked = 0};
}

static void add_range(uintptr_t begin, uintptr_t end,
                      const flk_slots_policy *policy) {
    begin = (begin + sizeof begin - 1) & ~(sizeof begin - 1);
    end &= ~(sizeof end - 1);
    if (begin >= end)
        return;
    if (copies.range_count == FLK_COPIES_RANGES_MAX) {
        copies.counts.left_out++;
        return;
    }
    uint32_t i = copies.range_count++;
    for (; i > 0 && copies.ranges[i - 1].begin > begin; i--)
        copies.ranges[i] = copies.ranges[i - 1];
    copies.ranges[i] = (data_range){begin, end, *policy};
}

// The loader seals RELRO after it has filled it, so programs copy nothing there.
void flk_copies_add(const flk_elf *elf, const flk_slots_policy *policy) {
    FLK_ASSERT(elf->headers != NULL);
    for (size_t i = 0; i < elf->header_count; i++) {
        const Elf64_Phdr *h = &elf->headers[i];
        uintptr_t begin = elf->base + h->p_vaddr, end = begin + h->p_memsz;
        if (h->p_type != PT_LOAD || !(h->p_flags & PF_W))
            continue;
        bool is_sealed = elf->relro.begin < end && elf->relro.end > begin;
        if (is_sealed && elf->relro.begin > begin)
            add_range(begin, elf->relro.begin, policy);
        add_range(is_sealed && elf->relro.end > begin ? elf->relro.end : begin,
                  end, policy);
    }
}

// --- what is searched for ------------------------------------------------
static void widen(span *s, uintptr_t address) {
    if (address < s->first)
        s->first = address;
    if (address > s->last)
        s->last = address;
}

static void know(uintptr_t address, unsigned provider, flk_function function,
                 unsigned place) {
    FLK_ASSERT(copies.known_count < KNOWN_MAX && place < SPANS);
    uint32_t i = copies.known_count++;
    for (; i > 0 && copies.known[i - 1].address > address; i--)
        copies.known[i] = copies.known[i - 1];
    copies.known[i] = (known){address, (uint16_t)function, (uint8_t)provider};
    widen(&copies.spans[place], address);
    widen(&copies.whole, address);
}

// An unloaded provider has addresses still; another object may lie there.
static void know_functions(void) {
    for (unsigned i = 0; i < SPANS; i++)
        copies.spans[i] = (span){UINTPTR_MAX, 0};
    copies.whole = (span){UINTPTR_MAX, 0};
    copies.known_count = 0;
    for (int f = 0; f < FLK_FN_COUNT; f++) {
        flk_function function = (flk_function)f;
        for (unsigned p = 0; p < FLK_PROVIDERS_MAX; p++) {
            uintptr_t address = flk_stub_table_original_of(p, function);
            if (flk_providers_owner(function, address) == (int)p)
                know(address, p, function, p);
        }
        int provider = flk_providers_default(function);
        uintptr_t canonical = flk_providers_canonical(function);
        if (canonical && provider >= 0)
            know(canonical, (unsigned)provider, function, FLK_PROVIDERS_MAX);
    }
    span *stubs = &copies.spans[FLK_PROVIDERS_MAX + 1];
    flk_stubs_span(&stubs->first, &stubs->last);
    widen(&copies.whole, stubs->first);
    widen(&copies.whole, stubs->last);
}

static const known *known_at(uintptr_t address) {
    uint32_t low = 0, high = copies.known_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (copies.known[middle].address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < copies.known_count && copies.known[low].address == address
               ? &copies.known[low]
               : NULL;
}

// --- words -------------------------------------------------------------
static FLK_HOT bool may_be_known(uintptr_t value) {
    if (FLK_LIKELY(value < copies.whole.first || value > copies.whole.last))
        return false;
    for (int i = 0; i < SPANS; i++)
        if (value >= copies.spans[i].first && value <= copies.spans[i].last)
            return true;
    return false;
}

// What the word is to hold; 0: it is no such pointer. A looked-up function in
// an untraced object stays: it may be called by others.
static uintptr_t value_for(uintptr_t now, const flk_slots_policy *policy) {
    unsigned provider;
    flk_function function;
    flk_via via;
    if (flk_stubs_find(now, &provider, &function, &via)) {
        bool stays = policy->is_hooked && via == FLK_VIA_EXPORT &&
                     policy->via == FLK_VIA_UNTRACED;
        return stays ? now : flk_slots_value(policy, provider, function);
    }
    const known *one = known_at(now);
    return one ? flk_slots_value(policy, one->provider,
                                 (flk_function)one->function)
               : 0;
}

// The canonical address leads to a hook by itself, so it stays where nothing is
// to be hooked.
static FLK_NOINLINE void set_word(uintptr_t *word, uintptr_t now,
                                  const flk_slots_policy *policy) {
    uintptr_t value = value_for(now, policy);
    unsigned provider;
    flk_function function;
    flk_via via;
    if (!value)
        return;
    bool is_hooked = flk_stubs_find(value, &provider, &function, &via);
    bool was_hooked = flk_stubs_find(now, &provider, &function, &via);
    if (value == now || !(is_hooked || was_hooked))
        return;
    bool is_set = __atomic_compare_exchange_n(
        word, &now, value, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    copies.counts.hooked += is_set && is_hooked && !was_hooked;
}

static void search_page(uintptr_t begin, uintptr_t end,
                        const flk_slots_policy *policy) {
    FLK_ASSERT(begin % sizeof begin == 0 && end % sizeof end == 0);
    for (uintptr_t at = begin; at < end; at += sizeof at) {
        uintptr_t *word = (uintptr_t *)at;
        uintptr_t now = __atomic_load_n(word, __ATOMIC_RELAXED);
        if (FLK_UNLIKELY(may_be_known(now)))
            set_word(word, now, policy);
    }
}

static void search_range(uintptr_t begin, uintptr_t end,
                         const flk_slots_policy *policy) {
    uintptr_t page = flk_platform_page_bytes();
    while (begin < end) {
        uintptr_t next = (begin & ~(page - 1)) + page;
        if (next > end)
            next = end;
        if (flk_pages_may_be_written(&copies.pages, begin))
            search_page(begin, next, policy);
        begin = next;
    }
}

// The ranges that overlap with a mapping. A program may have taken the rights
// of a part of its data away (guard pages), so the kernel is asked.
static void search_mapping(const flk_maps_range *mapping, void *unused) {
    (void)unused;
    const unsigned both = FLK_PAGE_READ | FLK_PAGE_WRITE;
    uint32_t low = 0, high = copies.range_count;
    if ((mapping->may & both) != both)
        return;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (copies.ranges[middle].end <= mapping->begin)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < copies.range_count; low++) {
        const data_range *r = &copies.ranges[low];
        if (r->begin >= mapping->end)
            return;
        search_range(r->begin > mapping->begin ? r->begin : mapping->begin,
                     r->end < mapping->end ? r->end : mapping->end, &r->policy);
    }
}

flk_copies_counts flk_copies_set(void) {
    know_functions();
    flk_pages_open(&copies.pages);
    flk_maps_each(search_mapping, NULL);
    flk_pages_close(&copies.pages);
    return copies.counts;
}
#endif

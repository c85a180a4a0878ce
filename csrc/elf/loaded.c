// loaded.c - queries the loader. Contract: elf/loaded.h.                 SPDX-License-Identifier: MIT
#include "elf/loaded.h"

#ifdef FLK_HAS_ELF
#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <string.h>

enum { WORDS_MAX = 8 };

// struct dl_find_object of glibc 2.35, declared here because older headers do
// not have it. The room at the end is for fields of later versions.
typedef struct found_object {
    unsigned long long flags;
    void *map_start, *map_end;
    struct link_map *map;
    void *header;
    unsigned long long reserved[16];
} found_object;
typedef int (*find_object)(void *, found_object *);

static struct {
    _Atomic(find_object) find;
    // Words of the loader. One of them counts the objects it ever loaded.
    // Relaxed: a thread can run code of a new object only if it received an
    // address of it after the object was loaded.
    atomic_uint word_count;
    _Atomic(const uint64_t *) words[WORDS_MAX];
    atomic_ullong guesses;  // epochs, while the words are unknown
    flk_lock lock;          // guards writing, and dl_iterate_phdr
} loaded = {.lock = FLK_LOCK_INIT(FLK_RANK_LOADER)};

// --- the epoch of the loader -------------------------------------------
// Another thread may be loading an object, so the compiler must read the word
// each time.
static inline uint64_t read_word(const uint64_t *word) {
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

#if defined(__GLIBC__)
// A new epoch each time, so that nothing that was learned is reused.
static uint64_t guess(void) {
    return atomic_fetch_add_explicit(&loaded.guesses, 1, memory_order_relaxed);
}
#else
static uint64_t guess(void) { return 1; }  // musl never unloads
#endif

uint64_t flk_loaded_epoch(void) {
    unsigned count =
        atomic_load_explicit(&loaded.word_count, memory_order_acquire);
    if (FLK_UNLIKELY(count == 0))
        return guess();
    FLK_ASSERT(count <= WORDS_MAX);
    uint64_t sum = 1, factor = UINT64_C(0x9E3779B97F4A7C15);
    for (unsigned i = 0; i < count; i++) {
        sum += factor * read_word(atomic_load_explicit(&loaded.words[i],
                                                       memory_order_relaxed));
        factor += UINT64_C(0xBF58476D1CE4E5BA);
    }
    return sum;
}

bool flk_loaded_is_watched(void) { return atomic_load(&loaded.word_count) > 0; }
void flk_loaded_lock_all(void) { flk_lock_take(&loaded.lock); }
void flk_loaded_unlock_all(void) { flk_lock_release(&loaded.lock); }

#if defined(__GLIBC__)
static int read_adds(struct dl_phdr_info *info, size_t size, void *adds) {
    (void)size;
    *(uint64_t *)adds = info->dlpi_adds;
    return 1;
}

typedef struct words {
    unsigned count;
    const uint64_t *at[WORDS_MAX];
} words;

// The number of objects that are loaded now is the word behind the address of
// the first one. It may equal the counter, but can fall, so it is not watched.
static bool is_number_of_objects(const uint64_t *state, size_t i) {
    FLK_ASSERT(state != NULL);
    return i > 0 && read_word(&state[i - 1]) == (uintptr_t)_r_debug.r_map;
}

typedef struct loader_state {
    const uint64_t *words;  // NULL: not known
    size_t count;
} loader_state;

// With no lock of ours held: dlsym and dladdr1 take the loader's lock that
// constructors run under.
static loader_state find_state(void) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    const uint64_t *state = dlsym(RTLD_DEFAULT, "_rtld_global");
    bool is_found = state &&
                    dladdr1(state, &info, (void **)&symbol, RTLD_DL_SYMENT) &&
                    symbol && info.dli_saddr == (const void *)state;
    return is_found ? (loader_state){state, symbol->st_size / sizeof *state}
                    : (loader_state){NULL, 0};
}

// All words of the loader's state that hold the count now. One of them is
// the counter, so if none of them changes the counter does not either.
static void find_words(const loader_state *state, words *out) {
    uint64_t adds = 0, again = 0;
    out->count = 0;
    dl_iterate_phdr(read_adds, &adds);
    for (size_t i = 0; i < state->count; i++)
        if (read_word(&state->words[i]) == adds &&
            !is_number_of_objects(state->words, i) && out->count++ < WORDS_MAX)
            out->at[out->count - 1] = &state->words[i];
    dl_iterate_phdr(read_adds, &again);
    // Too many words, or another thread is loading: the words are unknown.
    if (out->count > WORDS_MAX || again != adds)
        out->count = 0;
    FLK_ASSERT(out->count <= WORDS_MAX);
}

static bool are_known(const words *w) {
    FLK_ASSERT(w->count <= WORDS_MAX);
    bool same = atomic_load(&loaded.word_count) == w->count;
    for (unsigned i = 0; same && i < w->count; i++)
        same = atomic_load(&loaded.words[i]) == w->at[i];
    return same;
}

// The count is 0 meanwhile. An epoch computed from old and new words equals no
// other epoch.
static void set_words(const words *w) {
    FLK_ASSERT(w->count <= WORDS_MAX);
    if (are_known(w))
        return;
    atomic_store(&loaded.word_count, 0);
    for (unsigned i = 0; i < w->count; i++)
        atomic_store(&loaded.words[i], w->at[i]);
    atomic_store_explicit(&loaded.word_count, w->count, memory_order_release);
}

// Tries again while another thread is loading.
static void watch(void) {
    enum { TRIES = 10 };
    words found = {.count = 0};
    loader_state state = find_state();
    flk_lock_take(&loaded.lock);
    for (int i = 0; i < TRIES && found.count == 0; i++)
        find_words(&state, &found);
    set_words(&found);
    flk_lock_release(&loaded.lock);
}
#else
static void watch(void) {}
#endif

void flk_loaded_start(void) {
    atomic_store(&loaded.find,
                 (find_object)dlsym(RTLD_DEFAULT, "_dl_find_object"));
    watch();
    dlerror();  // clears the error of a failed look-up
}

// --- the object at an address ------------------------------------------
typedef struct wanted {
    uintptr_t address;
    flk_loaded *out;
} wanted;

static void take_segment(const struct dl_phdr_info *info,
                         const ElfW(Phdr) * segment, flk_loaded *out) {
    FLK_ASSERT(info && segment && out);
    uintptr_t begin = info->dlpi_addr + segment->p_vaddr;
    if (segment->p_type == PT_GNU_EH_FRAME)
        out->header = begin;
    if (segment->p_type != PT_LOAD)
        return;
    if (!out->end || begin < out->begin)
        out->begin = begin & ~(uintptr_t)(flk_platform_page_bytes() - 1);
    if (begin + segment->p_memsz > out->end)
        out->end = begin + segment->p_memsz;
}

static int take_if_wanted(struct dl_phdr_info *info, size_t size,
                          void *context) {
    FLK_ASSERT(context && info);
    const wanted *w = context;
    (void)size;
    flk_loaded one = {.base = info->dlpi_addr,
                      .path = info->dlpi_name ? info->dlpi_name : ""};
    for (int i = 0; i < info->dlpi_phnum; i++)
        take_segment(info, &info->dlpi_phdr[i], &one);
    if (w->address < one.begin || w->address >= one.end)
        return 0;
    *w->out = one;
    return 1;
}

bool flk_loaded_is_lock_free(void) {
    return atomic_load_explicit(&loaded.find, memory_order_relaxed) != NULL;
}

bool flk_loaded_at(uintptr_t address, flk_loaded *out) {
    FLK_ASSERT(out != NULL);
    find_object find = atomic_load_explicit(&loaded.find, memory_order_relaxed);
    if (!find) {
        wanted w = {address, out};
        return dl_iterate_phdr(take_if_wanted, &w) != 0;
    }
    found_object found;
    if (find((void *)address, &found) != 0 || !found.map)
        return false;
    *out = (flk_loaded){(uintptr_t)found.map_start, (uintptr_t)found.map_end,
                        found.map->l_addr, (uintptr_t)found.header,
                        found.map->l_name ? found.map->l_name : ""};
    FLK_ASSERT(out->begin <= address && address < out->end);
    return true;
}

// The first segment begins with the header of the file; the program headers
// follow it in the same page.
bool flk_loaded_open(const flk_loaded *one, flk_elf *out) {
    FLK_ASSERT(one->begin <= one->end);
    const ElfW(Ehdr) *header = (const void *)one->begin;
    size_t page = flk_platform_page_bytes();
    if (one->end - one->begin < page ||
        memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_phentsize != sizeof(ElfW(Phdr)) || header->e_phoff > page ||
        header->e_phnum > (page - header->e_phoff) / sizeof(ElfW(Phdr)))
        return false;
    return flk_elf_open(out, one->base,
                        (const void *)(one->begin + header->e_phoff),
                        header->e_phnum);
}
#else
void flk_loaded_lock_all(void) {}
void flk_loaded_unlock_all(void) {}
#endif

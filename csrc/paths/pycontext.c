// pycontext.c - finds a variable in an immutable map. Contract: paths/pycontext.h. SPDX-License-Identifier: MIT
#if !defined(FLK_PLAIN_PYTHON)
#include <Python.h>
#endif

#include <string.h>

#include "base/platform.h"
#include "paths/pycontext.h"
#include "paths/pyframe.h"

#if !defined(FLK_PLAIN_PYTHON)

// --- layouts -----------------------------------------------------------
// Declared here, because the internal headers do not declare all of them.
// find_flaw() compares them with what Python says.
typedef struct hamt {
    PyObject_HEAD const PyObject *root;
} hamt;

typedef struct context_object {
    PyObject_HEAD struct context_object *previous;
    const hamt *variables;
    PyObject *weak_references;
    int is_entered;
} context_object;

enum { LEVEL_BITS = 5, LEVEL_WIDTH = 1 << LEVEL_BITS, LEVELS_MAX = 8 };

// Two words for each bit that is set: a key and its value, or NULL and the node
// of the next level.
typedef struct bitmap_node {
    PyObject_VAR_HEAD uint32_t bits;
    const PyObject *pairs[];
} bitmap_node;

typedef struct array_node {
    PyObject_HEAD const PyObject *below[LEVEL_WIDTH];
} array_node;

// All keys of one hash, each with its value.
typedef struct collision_node {
    PyObject_VAR_HEAD int32_t hash;
    const PyObject *pairs[];
} collision_node;

// Set before is_readable, and not changed while that is true.
static struct {
    atomic_bool is_readable;
    const PyObject *variable;
    uint32_t hash;
    size_t number_offset;
    const PyTypeObject *bitmap_type, *array_type;  // NULL: not met yet
} contexts;

// --- the map -----------------------------------------------------------
static uint32_t folded(Py_hash_t hash) {
    uint32_t word = (uint32_t)hash ^ (uint32_t)((uint64_t)hash >> 32);
    return word == UINT32_MAX ? UINT32_MAX - 1 : word;
}

// Of `count` words, every other one a key. NULL: it is not among them.
static const PyObject *find_pair(const PyObject *const *pairs, size_t count,
                                 const PyObject *key) {
    for (size_t i = 0; i + 1 < count; i += 2)
        if (pairs[i] == key)
            return pairs[i + 1];
    return NULL;
}

// Without the instruction, which not every processor has, the compiler's own
// function takes 20 instructions.
static inline uint32_t count_bits(uint32_t word) {
    word -= word >> 1 & 0x55555555;
    word = (word & 0x33333333) + (word >> 2 & 0x33333333);
    return ((word + (word >> 4)) & 0x0f0f0f0f) * 0x01010101 >> 24;
}

// The value of the key, or NULL; or in `*below` the node to go on with.
static const PyObject *find_in_bitmap(const bitmap_node *node, uint32_t index,
                                      const PyObject *key,
                                      const PyObject **below) {
    FLK_ASSERT(index < LEVEL_WIDTH);
    uint32_t bit = UINT32_C(1) << index;
    if (!(node->bits & bit))
        return NULL;
    const PyObject *const *pair =
        &node->pairs[2 * count_bits(node->bits & (bit - 1))];
    if (!pair[0])
        *below = pair[1];
    return pair[0] == key ? pair[1] : NULL;
}

// Types of nodes are objects that never die. Their addresses are not exported.
static bool is_named(const PyObject *node, const char *name) {
    FLK_ASSERT(node && node->ob_type);
    return strcmp(node->ob_type->tp_name, name) == 0;
}

static const PyObject *find_in_map(const hamt *variables, const PyObject *key,
                                   uint32_t hash) {
    FLK_ASSERT(variables && key);
    const PyObject *node = variables->root, *value = NULL;
    for (int level = 0; node && !value && level < LEVELS_MAX; level++) {
        uint32_t index = hash >> LEVEL_BITS * level & (LEVEL_WIDTH - 1);
        const PyObject *below = NULL;
        if (FLK_LIKELY(node->ob_type == contexts.bitmap_type))
            value =
                find_in_bitmap((const bitmap_node *)node, index, key, &below);
        else if (node->ob_type == contexts.array_type)
            below = ((const array_node *)node)->below[index];
        else if (is_named(node, "hamt_collision_node"))
            value = find_pair(((const collision_node *)node)->pairs,
                              (size_t)Py_SIZE(node), key);
        node = below;
    }
    return value;
}

// --- this thread -------------------------------------------------------
// The state of this thread, which cannot end until let_go; NULL: none.
static inline const PyThreadState *hold_state(bool is_attached) {
    return is_attached ? PyThreadState_Get() : flk_pyframe_hold();
}

static inline void let_go(const PyThreadState *state, bool is_attached) {
    if (!is_attached)
        flk_pyframe_release(state);
}

bool flk_pycontext_is_readable(void) {
    return atomic_load_explicit(&contexts.is_readable, memory_order_acquire);
}

bool flk_pycontext_look(flk_context_mark *out, bool is_attached) {
    FLK_ASSERT(out != NULL);
    const PyThreadState *state = hold_state(is_attached);
    if (FLK_UNLIKELY(!state))
        return false;
    *out = (flk_context_mark){state->context, state->context_ver, state->id};
    let_go(state, is_attached);
    return true;
}

static void read_value(const context_object *context, flk_context_value *out) {
    FLK_ASSERT(context && contexts.variable);
    const PyObject *value =
        find_in_map(context->variables, contexts.variable, contexts.hash);
    *out = (flk_context_value){.is_set = value && value != Py_None,
                               .is_entered = context->is_entered != 0};
    if (out->is_set)
        memcpy(&out->number, (const char *)value + contexts.number_offset,
               sizeof out->number);
}

bool flk_pycontext_find(flk_context_value *out, bool is_attached) {
    FLK_ASSERT(out != NULL);
    if (!flk_pycontext_is_readable())
        return false;
    const PyThreadState *state = hold_state(is_attached);
    if (!state)
        return false;
    const void *context = state->context;
    if (context)
        read_value(context, out);
    let_go(state, is_attached);
    return context != NULL;
}

// --- a check of the layouts ----------------------------------------------
// With more than LEVEL_WIDTH / 2 different hashes in its level the root is an
// array. Looking after each variable would take ten times as long.
enum { TRIES = 64, STEP = 16 };

static const context_object *current_context(void) {
    return (const context_object *)PyThreadState_Get()->context;
}

// The first `count` variables are set to themselves, the others are not set.
static bool are_all_found(PyObject *const *variables, int count) {
    FLK_ASSERT(count >= 0 && count <= TRIES);
    for (int i = 0; i < TRIES; i++) {
        const PyObject *found =
            find_in_map(current_context()->variables, variables[i],
                        folded(PyObject_Hash(variables[i])));
        if (found != (i < count ? variables[i] : NULL))
            return false;
    }
    return true;
}

static void learn_types(const PyObject *root) {
    FLK_ASSERT(root != NULL);
    if (is_named(root, "hamt_bitmap_node"))
        contexts.bitmap_type = root->ob_type;
    else if (is_named(root, "hamt_array_node"))
        contexts.array_type = root->ob_type;
}

static bool is_map(const hamt *variables) {
    return flk_platform_can_read(variables, sizeof *variables) &&
           is_named((const PyObject *)variables, "hamt");
}

// Sets one variable after the other, to itself, in the current context.
static bool is_each_found(PyObject *const *variables) {
    FLK_ASSERT(current_context() != NULL);
    bool is_right = true;
    for (int count = 0; count <= TRIES && is_right; count++) {
        learn_types(current_context()->variables->root);
        is_right = count % STEP > 1 || are_all_found(variables, count);
        PyObject *token =
            count < TRIES && is_right
                ? PyContextVar_Set(variables[count], variables[count])
                : NULL;
        is_right = is_right && (token || count == TRIES);
        Py_XDECREF(token);
    }
    return is_right && contexts.bitmap_type && contexts.array_type;
}

// False: there is an exception, or the layout is another one.
static bool agrees(PyObject *const *variables) {
    FLK_ASSERT(PyGILState_Check());
    PyObject *context = PyContext_New();
    uint64_t version = PyThreadState_Get()->context_ver;
    if (!context || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return false;
    }
    bool is_right = context->ob_type->tp_basicsize == sizeof(context_object) &&
                    (const void *)current_context() == context &&
                    is_map(current_context()->variables) &&
                    PyThreadState_Get()->context_ver != version &&
                    current_context()->is_entered == 1 &&
                    is_each_found(variables);
    is_right = PyContext_Exit(context) == 0 && is_right &&
               ((const context_object *)context)->is_entered == 0;
    Py_DECREF(context);
    return is_right;
}

static bool has_expected_layout(void) {
    PyObject *variables[TRIES];
    // Hashes are of the name and the address. Addresses alone may have the same
    // low bits: mimalloc's are multiples of 64.
    char name[] = {'0', 0};
    int made = 0;
    while (made < TRIES && (variables[made] = PyContextVar_New(name, NULL))) {
        made++;
        name[0]++;
    }
    bool is_right = made == TRIES && agrees(variables);
    while (made > 0)
        Py_DECREF(variables[--made]);
    PyErr_Clear();
    return is_right;
}

static const char *install_variable(PyObject *variable, size_t number_offset) {
    FLK_ASSERT(PyGILState_Check() && variable);
    if (!flk_pyframe_is_open())
        return "thread states of this interpreter are not read";
    if (atomic_load(&contexts.is_readable))
        return NULL;
    if (!has_expected_layout())
        return "contexts of this interpreter are not laid out as expected";
    contexts.variable = Py_NewRef(variable);
    contexts.hash = folded(PyObject_Hash(variable));
    contexts.number_offset =
        number_offset ? number_offset : offsetof(PyBytesObject, ob_sval);
    atomic_store(&contexts.is_readable, true);
    return NULL;
}

const char *flk_pycontext_install(void *variable, size_t number_offset) {
    PyGILState_STATE gil = PyGILState_Ensure();
    const char *problem = install_variable(variable, number_offset);
    PyGILState_Release(gil);
    return problem;
}

#else  // no thread states
bool flk_pycontext_is_readable(void) { return false; }
bool flk_pycontext_look(flk_context_mark *out, bool is_attached) {
    (void)out, (void)is_attached;
    return false;
}
bool flk_pycontext_find(flk_context_value *out, bool is_attached) {
    (void)out, (void)is_attached;
    return false;
}
const char *flk_pycontext_install(void *variable, size_t number_offset) {
    (void)variable, (void)number_offset;
    return "this interpreter has no thread states that C can read";
}
#endif

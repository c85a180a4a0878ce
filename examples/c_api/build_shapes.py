"""Builds ``_shapes``, whose C code reports its own objects."""

import cffi

import ffi_leak_tracker

SOURCE = """
#include <ffi_leak_tracker.h>
#include <pthread.h>
#include <stdlib.h>

struct shape { int corners; };

static ffilt_type a_shape =
    FFILT_TYPE("struct shape", "shape_new", "shape_free");
static ffilt_type a_drawn_shape =
    FFILT_TYPE("drawn shape", "shape_new", "shape_free");

struct shape *shape_new(int corners) {
    struct shape *made = malloc(sizeof *made);
    made->corners = corners;
    ffilt_track(made, sizeof *made, &a_shape);
    return made;
}

void shape_draw(struct shape *one) {
    ffilt_retype(one, &a_drawn_shape);
}

void shape_free(struct shape *one) {
    ffilt_released(one, "shape_free");
    free(one);
}

/* A thread of C makes the shape, for the scope of Python that asks. */
struct order { int corners; ffilt_scope scope; struct shape *made; };

static void *carry_out(void *data) {
    struct order *order = data;
    order->made = malloc(sizeof *order->made);
    order->made->corners = order->corners;
    ffilt_track_in(order->scope, order->made, sizeof *order->made, &a_shape);
    return NULL;
}

struct shape *shape_order(int corners) {
    struct order order = {corners, ffilt_scope_here(), NULL};
    pthread_t thread;
    pthread_create(&thread, NULL, carry_out, &order);
    pthread_join(thread, NULL);
    return order.made;
}
"""

ffi = cffi.FFI()
ffi.cdef("""
    struct shape;
    struct shape *shape_new(int corners);
    void shape_draw(struct shape *);
    void shape_free(struct shape *);
    struct shape *shape_order(int corners);
""")
ffi.set_source("_shapes", SOURCE, include_dirs=[ffi_leak_tracker.get_include()])

if __name__ == "__main__":
    ffi.compile()

// user.c - stands on another library; built with -lplain.
#include <stddef.h>

extern void *take(size_t);
void *take_through(size_t size) { return take(size); }

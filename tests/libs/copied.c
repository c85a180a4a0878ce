// copied.c - calls malloc and free through variables that it fills at run time.
#include <stdlib.h>
#include <string.h>

static struct { void *(*take)(size_t); void (*give)(void *); char *(*text)(const char *); } by;
static void *first;
void copy(void) { by.take = malloc; by.give = free; by.text = strdup; first = (char *)malloc + 1; }
int is_original(void) { return (char *)by.take + 1 == first; }
void *take(void) { return by.take(123); }
void *text(void) { return by.text("five."); }
void give(void *block) { by.give(block); }

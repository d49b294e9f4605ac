/*
 * Where a file is cut by its content: the buzhash chunker of IPFS (boxo, chunker/buzhash.go).
 *
 * The host writes up to `room()` bytes at `input()`, calls `cut`, and reads so many lengths at `lengths()`.
 * Promises: no import, no memory growth, no trap; the same lengths as promisegrid/chunker, its specification.
 * Does not know: where the bytes come from, how many calls there are: nothing is kept between two of them.
 */
#include "table.h" /* made by build.py out of promisegrid/chunker: TABLE, SMALLEST, LARGEST, MASK, WINDOW, ROOM */

typedef unsigned int u32;
typedef unsigned char u8;

#define EXPORT(name) __attribute__((export_name(name), used))

static u8 bytes[ROOM];
static u32 found[ROOM / SMALLEST + 1];

EXPORT("input") u8 *input(void) { return bytes; }
EXPORT("room") u32 room(void) { return ROOM; }
EXPORT("lengths") u32 *lengths(void) { return found; }

/* The length of the first chunk of `size` bytes that are either LARGEST or more, or all there is. */
static u32 first(const u8 *at, u32 size) {
    if (size > LARGEST) size = LARGEST;
    if (size <= SMALLEST) return size;
    u32 state = 0;
    const u8 *old = at + SMALLEST - WINDOW;
    const u8 *next = old;
    for (; next < at + SMALLEST; next++) state = (state << 1 | state >> 31) ^ TABLE[*next];
    /* A window of 32 bytes: what leaves it has been rotated all the way round. */
    for (const u8 *end = at + size; next < end && (state & MASK); next++, old++)
        state = (state << 1 | state >> 31) ^ TABLE[*old] ^ TABLE[*next];
    return (u32)(next - at);
}

/* How many chunks `size` bytes of input begin with; all of it is cut if nothing follows (`last`). */
EXPORT("cut") u32 cut(u32 size, u32 last) {
    u32 count = 0;
    if (size > ROOM) size = ROOM;
    for (u32 at = 0; at < size && (last || size - at >= LARGEST); at += found[count++])
        found[count] = first(bytes + at, size - at);
    return count;
}

/* A file's bytes: pages of 64 KiB found through a table, so growing never copies what is there.
 *
 * Promises: reading past what was written gives zeros; input is not copied until it is first written to.
 * Does not know: names, descriptors, limits on output (the calls charge before they write).
 */
#include "wasi.h"

enum { PAGE = 65536, FIRST_MIN = 64 };

static u32 minimum(u32 a, u32 b) { return a < b ? a : b; }

static void table_reserve(Bytes *bytes, u32 count) {
  if (count <= bytes->pages_room) return;
  u32 room = bytes->pages_room ? bytes->pages_room : 1;
  while (room < count) room *= 2;
  u8 **pages = allocate(room * sizeof *pages);
  if (bytes->pages) copy(pages, bytes->pages, bytes->pages_room * sizeof *pages);
  release(bytes->pages, bytes->pages_room * sizeof *pages);
  bytes->pages = pages;
  bytes->pages_room = room;
}

/* Page 0 of a small file is only as large as it needs to be, doubling up to a whole page. */
static void first_reserve(Bytes *bytes, u32 size) {
  if (size <= bytes->first_room) return;
  u32 room = FIRST_MIN;
  while (room < size) room *= 2;
  u8 *page = allocate(room);
  if (bytes->first_room) copy(page, bytes->pages[0], bytes->first_room);
  release(bytes->pages[0], bytes->first_room);
  bytes->pages[0] = page;
  bytes->first_room = room;
}

static u8 *page_for_write(Bytes *bytes, u32 index, u32 size) {
  table_reserve(bytes, index + 1);
  if (index == 0) first_reserve(bytes, size);
  else if (!bytes->pages[index]) bytes->pages[index] = allocate(PAGE);
  return bytes->pages[index];
}

/* The bytes in place at `offset` and how many lie together there; NULL where they read as zeros. */
static const u8 *run_at(Bytes *bytes, u64 offset, u32 *size) {
  if (bytes->borrowed) return bytes->borrowed + offset;
  u32 index = (u32)(offset / PAGE), inside = (u32)(offset % PAGE);
  const u8 *page = index < bytes->pages_room ? bytes->pages[index] : NULL;
  u32 room = index == 0 ? bytes->first_room : PAGE;
  if (!page || inside >= room) {
    *size = minimum(*size, PAGE - inside);
    return NULL;
  }
  *size = minimum(*size, room - inside);
  return page + inside;
}

void bytes_read(Bytes *bytes, u64 offset, u8 *to, u32 size) {
  while (size) {
    u32 run = size;
    const u8 *from = run_at(bytes, offset, &run);
    if (from) copy(to, from, run);
    else fill_zero(to, run);
    to += run, offset += run, size -= run;
  }
}

void bytes_read_to_guest(Bytes *bytes, u64 offset, Guest to, u32 size) {
  static const u8 zeros[4096];
  while (size) {
    u32 run = size;
    const u8 *from = run_at(bytes, offset, &run);
    if (!from) run = minimum(run, sizeof zeros), from = zeros;
    guest_write(to, from, run);
    to += run, offset += run, size -= run;
  }
}

static void own(Bytes *bytes) {
  const u8 *from = bytes->borrowed;
  if (!from) return;
  bytes->borrowed = NULL;
  for (u64 offset = 0; offset < bytes->size; offset += PAGE) {
    u64 left = bytes->size - offset;
    u32 run = left < PAGE ? (u32)left : PAGE;
    copy(page_for_write(bytes, (u32)(offset / PAGE), run), from + offset, run);
  }
}

void bytes_write_from_guest(Bytes *bytes, u64 offset, Guest from, u32 size) {
  own(bytes);
  u64 past = offset + size;
  while (size) {
    u32 inside = (u32)(offset % PAGE), run = minimum(size, PAGE - inside);
    u8 *page = page_for_write(bytes, (u32)(offset / PAGE), inside + run);
    guest_read(page + inside, from, run);
    from += run, offset += run, size -= run;
  }
  if (past > bytes->size) bytes->size = past;
}

/* Growing costs nothing: missing pages are zeros. Shrinking wipes the tail, so that growing again shows zeros. */
void bytes_resize(Bytes *bytes, u64 size) {
  if (size == 0) bytes->borrowed = NULL;
  own(bytes);
  if (size < bytes->size) {
    for (u32 index = 0; index < bytes->pages_room; index++) {
      u64 start = (u64)index * PAGE;
      u32 room = index == 0 ? bytes->first_room : PAGE;
      u8 *page = bytes->pages[index];
      if (!page || start + room <= size) continue;
      if (start < size) {
        fill_zero(page + (size - start), room - (u32)(size - start));
        continue;
      }
      release(page, room);
      bytes->pages[index] = NULL;
      if (index == 0) bytes->first_room = 0;
    }
  }
  bytes->size = size;
}

void bytes_free(Bytes *bytes) {
  bytes_resize(bytes, 0);
  release(bytes->pages, bytes->pages_room * sizeof *bytes->pages);
}

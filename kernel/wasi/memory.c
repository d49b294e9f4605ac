/* Our own memory (power-of-two free lists over a growing heap) and the way to the program's memory.
 *
 * Promises: allocate() returns zeroed memory or traps with ENDED_MEMORY; no caller checks for NULL.
 * Does not know: what the memory is for.
 */
#include "wasi.h"

enum { PAGE = 65536, GROW_PAGES = 16, CLASS_MIN = 4, CLASS_MAX = 31 };

typedef struct Free { struct Free *next; } Free;

extern u8 __heap_base; /* set by the linker: the first byte after stack and data */

static Free *free_lists[CLASS_MAX + 1];
static u64 heap_at, heap_end;

static void *bump(u64 size) {
  if (heap_at == 0) {
    heap_at = ((u64)(u32)&__heap_base + 15) & ~15ull;
    heap_end = (u64)__builtin_wasm_memory_size(0) * PAGE;
  }
  if (heap_at + size > heap_end) {
    u64 pages = (heap_at + size - heap_end + PAGE - 1) / PAGE;
    u64 wanted = pages < GROW_PAGES ? GROW_PAGES : pages;
    if (wanted > PAGE) end(ENDED_MEMORY);
    if (__builtin_wasm_memory_grow(0, (u32)wanted) == (u32)-1) {
      wanted = pages;
      if (__builtin_wasm_memory_grow(0, (u32)wanted) == (u32)-1) end(ENDED_MEMORY);
    }
    heap_end += wanted * PAGE;
  }
  void *block = (void *)(u32)heap_at;
  heap_at += size;
  return block;
}

static u32 class_of(u64 size) {
  u32 class = CLASS_MIN;
  while ((1ull << class) < size) class++;
  return class;
}

/* Blocks up to 64 KiB come in powers of two and are reused; larger ones too, since they only double. */
void *allocate(u64 size) {
  if (size > FILE_MAX) end(ENDED_MEMORY);
  u32 class = class_of(size);
  void *block = free_lists[class];
  if (block) free_lists[class] = free_lists[class]->next;
  else block = bump(1ull << class);
  fill_zero(block, (u32)size);
  return block;
}

void release(void *block, u64 size) {
  if (!block) return;
  Free *free = block;
  u32 class = class_of(size);
  free->next = free_lists[class];
  free_lists[class] = free;
}

/* For the two blobs the host exchanges with us: exact size, never released. */
void *allocate_once(u64 size) {
  if (size > FILE_MAX) end(ENDED_MEMORY);
  return bump((size + 15) & ~15ull);
}

void copy(void *to, const void *from, u32 size) { __builtin_memcpy(to, from, size); }
void fill_zero(void *to, u32 size) { __builtin_memset(to, 0, size); }

int compare(const u8 *a, u32 a_size, const u8 *b, u32 b_size) {
  u32 shorter = a_size < b_size ? a_size : b_size;
  for (u32 i = 0; i < shorter; i++)
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  return a_size == b_size ? 0 : a_size < b_size ? -1 : 1;
}

/* ---- the program's memory, behind gate.wat ---- */

#define GATE(name) __attribute__((import_module("gate"), import_name(#name)))
GATE(in) void gate_in(void *to, Guest from, u32 size);
GATE(out) void gate_out(Guest to, const void *from, u32 size);
GATE(size) u64 gate_size(void);

static u64 guest_size; /* memory never shrinks, so a remembered size can only be too small */

int guest_has(Guest at, u64 size) {
  u64 past = at + size;
  if (past > guest_size) guest_size = gate_size();
  return past <= guest_size;
}

void guest_read(void *to, Guest from, u32 size) {
  if (size) gate_in(to, from, size);
}

void guest_write(Guest to, const void *from, u32 size) {
  if (size) gate_out(to, from, size);
}

void guest_put_u32(Guest to, u32 value) { gate_out(to, &value, 4); }
void guest_put_u64(Guest to, u64 value) { gate_out(to, &value, 8); }

/* What the host hands in (a job) and gets back (a result): two blobs of little-endian fields.
 *
 *   k_alloc(size) → address   room for the job          k_load(address, size) → 0, or 1 if the job is malformed
 *   k_result() → address      after the program ended   k_result_len() → its size
 *
 * Promises: any bytes are a job or are refused; nothing outside them is read. After a trap k_result still answers;
 * should memory run out while it does, it traps once with ENDED_MEMORY set and then answers without content. A tree
 * larger than the job and its output limit together is left out, with ENDED_OUTPUT set.
 * Source of the format: promisegrid/job.py, whose text it shares.
 */
#include "wasi.h"

#define JOB_MAGIC 0x314a4750u    /* "PGJ1" */
#define RESULT_MAGIC 0x31524750u /* "PGR1" */
enum { KIND_DIRECTORY = 0, KIND_FILE = 1, KIND_SYMLINK = 2 };

Job job;
static Node *in, *out, *err;
u32 random_next(void);

_Noreturn void end(u32 flag) {
  job.flags |= flag;
  __builtin_trap();
}

void charge(u64 size) {
  if (size > job.output_left) end(ENDED_OUTPUT);
  job.output_left -= size;
}

/* ---- reading ---- */

typedef struct { const u8 *at, *past; int short_; } Cursor;

static const u8 *take(Cursor *cursor, u32 size) {
  if ((u32)(cursor->past - cursor->at) < size) {
    cursor->short_ = 1;
    cursor->at = cursor->past;
    return NULL;
  }
  const u8 *at = cursor->at;
  cursor->at += size;
  return at;
}

static u64 take_number(Cursor *cursor, u32 size) {
  u64 value = 0;
  const u8 *at = take(cursor, size);
  if (at) copy(&value, at, size);
  return value;
}

static const u8 *take_texts(Cursor *cursor, u32 *count) {
  *count = (u32)take_number(cursor, 4);
  const u8 *first = cursor->at;
  for (u32 i = 0; i < *count && !cursor->short_; i++) take(cursor, (u32)take_number(cursor, 4));
  return first;
}

static void lend(Node *node, const u8 *bytes, u32 size) {
  node->bytes.borrowed = bytes;
  node->bytes.size = size;
}

/* The directory in which a path's last name goes, or NULL: input paths are plain, "a/b/c", parents first. */
static Node *input_parent(const u8 *path, u32 size, u32 *name_start) {
  Node *here = root;
  u32 start = 0;
  for (u32 i = 0; i <= size; i++) {
    if (i < size && path[i] != '/') continue;
    u32 length = i - start;
    const u8 *name = path + start;
    int dots = length <= 2 && length > 0 && name[0] == '.' && name[length - 1] == '.';
    if (length == 0 || length > NAME_MAX || dots) return NULL;
    if (i == size) break;
    here = directory_find(here, name, length);
    if (!here || here->type != TYPE_DIRECTORY) return NULL;
    start = i + 1;
  }
  *name_start = start;
  return here;
}

static int take_node(Cursor *cursor) {
  u32 kind = (u32)take_number(cursor, 1);
  u32 path_size = (u32)take_number(cursor, 4);
  const u8 *path = take(cursor, path_size);
  u32 size = (u32)take_number(cursor, 4);
  const u8 *bytes = take(cursor, size);
  if (cursor->short_ || kind > KIND_SYMLINK || text_check(path, path_size)) return 0;
  if (kind == KIND_DIRECTORY && size) return 0;
  if (kind == KIND_SYMLINK && (size == 0 || size > PATH_MAX || text_check(bytes, size))) return 0;
  u32 start = 0;
  Node *parent = input_parent(path, path_size, &start);
  if (!parent || directory_find(parent, path + start, path_size - start)) return 0;
  static const u8 types[] = {TYPE_DIRECTORY, TYPE_FILE, TYPE_SYMLINK};
  Node *node = node_new(types[kind]);
  if (size) lend(node, bytes, size);
  directory_add(parent, path + start, path_size - start, node);
  return 1;
}

static void seed_random(Cursor *cursor) {
  u32 seed[8];
  for (u32 i = 0; i < 8; i++) seed[i] = (u32)take_number(cursor, 4);
  for (u32 i = 0; i < 4; i++) job.random[i] = seed[i] ^ seed[i + 4];
  for (u32 i = 0; i < 12; i++) random_next();
}

EXPORT(k_alloc) void *k_alloc(u32 size) { return allocate_once(size); }

EXPORT(k_load) u32 k_load(const u8 *blob, u32 size) {
  Cursor cursor = {blob, blob + size, 0};
  if (take_number(&cursor, 4) != JOB_MAGIC) return 1;
  seed_random(&cursor);
  job.output_left = take_number(&cursor, 8);
  job.result_max = job.output_left + size < size ? ~0ull : job.output_left + size;
  job.args = take_texts(&cursor, &job.arg_count);
  job.environ = take_texts(&cursor, &job.environ_count);
  u32 stdin_size = (u32)take_number(&cursor, 4);
  const u8 *stdin = take(&cursor, stdin_size);
  u32 nodes = (u32)take_number(&cursor, 4);
  if (cursor.short_) return 1;
  root = node_new(TYPE_DIRECTORY);
  root->links = 1;
  for (u32 i = 0; i < nodes; i++)
    if (!take_node(&cursor)) return 1;
  u64 inodes = job.inodes; /* the streams have no number */
  in = node_new(TYPE_FILE), out = node_new(TYPE_FILE), err = node_new(TYPE_FILE);
  job.inodes = inodes;
  if (stdin_size) lend(in, stdin, stdin_size);
  descriptors_start(in, out, err);
  return cursor.at != cursor.past;
}

/* ---- writing ---- */

typedef struct { Node *node; u8 *path; u32 size; } Item;
typedef struct { Item *items; u32 count, room; } List;

static void list_add(List *list, const Item *parent, const Entry *entry) {
  if (list->count == list->room) {
    u32 room = list->room ? list->room * 2 : 64;
    Item *items = allocate((u64)room * sizeof *items);
    if (list->items) copy(items, list->items, list->room * sizeof *items);
    release(list->items, list->room * sizeof *items);
    list->items = items;
    list->room = room;
  }
  u32 before = parent ? parent->size + 1 : 0;
  u8 *path = allocate((u64)before + entry->size);
  if (parent) {
    copy(path, parent->path, parent->size);
    path[parent->size] = '/';
  }
  copy(path + before, entry->name, entry->size);
  list->items[list->count++] = (Item){entry->node, path, before + entry->size};
}

/* Every node below the root, found level by level. */
static List list_all(void) {
  List list = {0};
  for (u32 i = 0; i < root->entry_count; i++) list_add(&list, NULL, root->entries[i]);
  for (u32 at = 0; at < list.count; at++) {
    Item item = list.items[at]; /* a copy: adding may move the items */
    for (u32 i = 0; i < item.node->entry_count; i++) list_add(&list, &item, item.node->entries[i]);
  }
  return list;
}

static void sift(Item *items, u32 at, u32 count) {
  for (u32 child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && compare(items[child].path, items[child].size, items[child + 1].path, items[child + 1].size) < 0)
      child++;
    if (compare(items[at].path, items[at].size, items[child].path, items[child].size) >= 0) return;
    Item swap = items[at];
    items[at] = items[child];
    items[child] = swap;
  }
}

static void sort(List list) {
  for (u32 i = list.count / 2; i-- > 0;) sift(list.items, i, list.count);
  for (u32 i = list.count; i-- > 1;) {
    Item swap = list.items[0];
    list.items[0] = list.items[i];
    list.items[i] = swap;
    sift(list.items, 0, i);
  }
}

static u8 *put(u8 *at, u32 value) {
  copy(at, &value, 4);
  return at + 4;
}

static u8 *put_bytes(u8 *at, Bytes *bytes) {
  at = put(at, (u32)bytes->size);
  bytes_read(bytes, 0, at, (u32)bytes->size);
  return at + bytes->size;
}

static u8 *put_item(u8 *at, const Item *item) {
  u8 type = item->node->type;
  *at++ = type == TYPE_DIRECTORY ? KIND_DIRECTORY : type == TYPE_FILE ? KIND_FILE : KIND_SYMLINK;
  at = put(at, item->size);
  copy(at, item->path, item->size);
  return put_bytes(at + item->size, &item->node->bytes);
}

static u8 *result;
static u32 result_size;

EXPORT(k_result) u8 *k_result(void) {
  static Bytes nothing;
  int whole = !(job.flags & ENDED_MEMORY) && out;
  Bytes *texts[2] = {whole ? &out->bytes : &nothing, whole ? &err->bytes : &nothing};
  int with_tree = (job.flags & TREE_CHANGED) && !(job.flags & (ENDED_MEMORY | ENDED_OUTPUT));
  List list = with_tree ? list_all() : (List){0};
  sort(list);
  u64 streams = 24 + texts[0]->size + texts[1]->size, size = streams;
  for (u32 i = 0; i < list.count; i++) size += 9 + (u64)list.items[i].size + list.items[i].node->bytes.size;
  if (whole && size > job.result_max) {
    job.flags |= ENDED_OUTPUT;
    list.count = 0;
    size = streams;
  }
  static u8 bare[24];
  result = whole ? allocate_once(size) : bare;
  result_size = (u32)size;
  u8 *at = put(result, RESULT_MAGIC);
  at = put(at, job.flags);
  at = put(at, job.exit_code);
  at = put_bytes(at, texts[0]);
  at = put_bytes(at, texts[1]);
  at = put(at, list.count);
  for (u32 i = 0; i < list.count; i++) at = put_item(at, &list.items[i]);
  return result;
}

EXPORT(k_result_len) u32 k_result_len(void) { return result_size; }

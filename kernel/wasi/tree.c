/* Nodes (directories, files, symbolic links) and the names by which directories hold them.
 *
 * Promises: names lie in byte order, so listings need no sorting; inode numbers count creations, the root is 1;
 * a node lives as long as a name or a descriptor holds it.
 * Does not know: paths, permissions, descriptors.
 */
#include "wasi.h"

Node *root;

Node *node_new(u8 type) {
  Node *node = allocate(sizeof *node);
  node->type = type;
  node->inode = ++job.inodes;
  node->accessed = node->modified = node->changed = now_ns();
  node->parent = node;
  return node;
}

void node_drop(Node *node) {
  if (node->links || node->opens || node == root) return;
  bytes_free(&node->bytes);
  release(node->entries, node->entry_room * sizeof *node->entries);
  release(node, sizeof *node);
}

void touch(Node *node) { node->modified = node->changed = now_ns(); }

/* The place of a name among the entries: where it is, or where it would go. */
static u32 position(Node *directory, const u8 *name, u32 size, int *found) {
  u32 low = 0, high = directory->entry_count;
  *found = 0;
  while (low < high) {
    u32 middle = low + (high - low) / 2;
    Entry *entry = directory->entries[middle];
    int order = compare(entry->name, entry->size, name, size);
    if (order == 0) {
      *found = 1;
      return middle;
    }
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

Node *directory_find(Node *directory, const u8 *name, u32 size) {
  int found;
  u32 index = position(directory, name, size, &found);
  return found ? directory->entries[index]->node : NULL;
}

static void reserve(Node *directory) {
  if (directory->entry_count < directory->entry_room) return;
  u32 room = directory->entry_room ? directory->entry_room * 2 : 8;
  Entry **entries = allocate(room * sizeof *entries);
  if (directory->entries) copy(entries, directory->entries, directory->entry_room * sizeof *entries);
  release(directory->entries, directory->entry_room * sizeof *entries);
  directory->entries = entries;
  directory->entry_room = room;
}

void directory_add(Node *directory, const u8 *name, u32 size, Node *node) {
  int found;
  u32 index = position(directory, name, size, &found);
  Entry *entry = allocate(sizeof *entry + size);
  entry->node = node;
  entry->size = size;
  copy(entry->name, name, size);
  reserve(directory);
  for (u32 i = directory->entry_count++; i > index; i--) directory->entries[i] = directory->entries[i - 1];
  directory->entries[index] = entry;
  node->links++;
  if (node->type == TYPE_DIRECTORY) node->parent = directory;
  touch(directory);
}

/* The node itself stays for the caller, who drops it or adds it elsewhere. */
void directory_remove(Node *directory, const u8 *name, u32 size) {
  int found;
  u32 index = position(directory, name, size, &found);
  Entry *entry = directory->entries[index];
  Node *node = entry->node;
  directory->entry_count--;
  for (u32 i = index; i < directory->entry_count; i++) directory->entries[i] = directory->entries[i + 1];
  release(entry, sizeof *entry + entry->size);
  node->links--;
  if (node->type == TYPE_DIRECTORY) node->parent = node;
  node->changed = now_ns();
  touch(directory);
}

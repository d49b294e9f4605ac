/* The table of open descriptors: 0, 1, 2 the standard streams, 3 the directory "/", then the lowest free number.
 *
 * Promises: a number is either closed (BADF) or holds its node until it is closed.
 * Does not know: paths.
 */
#include "wasi.h"

static Descriptor table[DESCRIPTORS_MAX];

static void hold(u32 fd, Node *node, u8 type, u32 rights, u32 flags) {
  table[fd] = (Descriptor){.node = node, .type = type, .rights = rights, .flags = flags};
  node->opens++;
}

void descriptors_start(Node *in, Node *out, Node *err) {
  hold(0, in, TYPE_UNKNOWN, RIGHT_READ, 0);
  hold(1, out, TYPE_UNKNOWN, RIGHT_WRITE, 0);
  hold(2, err, TYPE_UNKNOWN, RIGHT_WRITE, 0);
  hold(3, root, TYPE_DIRECTORY, 0, 0);
  table[3].preopened = 1;
  for (u32 fd = 0; fd < 3; fd++) table[fd].node->opens++; /* a closed stream's bytes still belong to the result */
}

Errno descriptor_any(u32 fd, Descriptor **found) {
  if (fd >= DESCRIPTORS_MAX || !table[fd].node) return BADF;
  *found = &table[fd];
  return OK;
}

Errno descriptor_file(u32 fd, Descriptor **found) {
  Errno wrong = descriptor_any(fd, found);
  if (wrong) return wrong;
  return (*found)->type == TYPE_DIRECTORY ? BADF : OK;
}

Errno descriptor_seekable(u32 fd, Descriptor **found) {
  Errno wrong = descriptor_file(fd, found);
  if (wrong) return wrong;
  return (*found)->type == TYPE_UNKNOWN ? SPIPE : OK;
}

Errno descriptor_directory(u32 fd, Descriptor **found) {
  Errno wrong = descriptor_any(fd, found);
  if (wrong) return wrong;
  return (*found)->type == TYPE_DIRECTORY ? OK : NOTDIR;
}

static u32 lowest_free(void) {
  u32 fd = 0;
  while (fd < DESCRIPTORS_MAX && table[fd].node) fd++;
  return fd;
}

Errno descriptor_room(void) { return lowest_free() == DESCRIPTORS_MAX ? MFILE : OK; }

Errno descriptor_open(Node *node, u32 rights, u32 flags, u32 *fd) {
  *fd = lowest_free();
  if (*fd == DESCRIPTORS_MAX) return MFILE;
  hold(*fd, node, node->type, rights, flags);
  return OK;
}

static void listing_drop(Descriptor *descriptor) {
  release(descriptor->listing, descriptor->listing_size);
  release(descriptor->listing_starts, descriptor->listing_count * sizeof(u32));
  descriptor->listing = NULL;
  descriptor->listing_starts = NULL;
}

static void drop(Descriptor *descriptor) {
  listing_drop(descriptor);
  Node *node = descriptor->node;
  descriptor->node = NULL;
  node->opens--;
  node_drop(node);
}

EXPORT(fd_close) Errno fd_close(u32 fd) {
  Descriptor *descriptor;
  Errno wrong = descriptor_any(fd, &descriptor);
  if (!wrong) drop(descriptor);
  return wrong;
}

/* `from` takes the number `to`; both must be open. */
EXPORT(fd_renumber) Errno fd_renumber(u32 from, u32 to) {
  Descriptor *source, *target;
  if (descriptor_any(from, &source) || descriptor_any(to, &target)) return BADF;
  if (from == to) return OK;
  drop(target);
  *target = *source;
  source->node = NULL;
  source->listing = NULL;
  source->listing_starts = NULL;
  return OK;
}

/* ---- fd_readdir: a snapshot of dirents, read like a file ---- */

enum { DIRENT = 24 };

static u8 *dirent(u8 *at, u64 next, Node *node, const u8 *name, u32 size) {
  copy(at, &next, 8);
  copy(at + 8, &node->inode, 8);
  copy(at + 16, &size, 4);
  at[20] = node->type;
  copy(at + DIRENT, name, size);
  return at + DIRENT + size;
}

static void listing_take(Descriptor *descriptor) {
  listing_drop(descriptor);
  Node *directory = descriptor->node;
  u64 size = 2 * DIRENT + 3;
  for (u32 i = 0; i < directory->entry_count; i++) size += DIRENT + directory->entries[i]->size;
  u32 count = directory->entry_count + 2;
  u8 *at = descriptor->listing = allocate(size);
  u32 *starts = descriptor->listing_starts = allocate(count * sizeof(u32));
  descriptor->listing_size = (u32)size;
  descriptor->listing_count = count;
  at = dirent(at, 1, directory, (const u8 *)".", 1);
  starts[1] = (u32)(at - descriptor->listing);
  at = dirent(at, 2, directory->parent, (const u8 *)"..", 2);
  for (u32 i = 0; i < directory->entry_count; i++) {
    Entry *entry = directory->entries[i];
    starts[i + 2] = (u32)(at - descriptor->listing);
    at = dirent(at, i + 3, entry->node, entry->name, entry->size);
  }
}

EXPORT(fd_readdir) Errno fd_readdir(u32 fd, Guest to, u32 room, u64 cookie, Guest used_at) {
  Descriptor *descriptor;
  Errno wrong = descriptor_directory(fd, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(to, room) || !guest_has(used_at, 4)) return FAULT;
  if (cookie == 0 || !descriptor->listing) listing_take(descriptor);
  u32 used = 0;
  if (cookie < descriptor->listing_count) {
    u32 start = descriptor->listing_starts[cookie];
    u32 left = descriptor->listing_size - start;
    used = left < room ? left : room;
    guest_write(to, descriptor->listing + start, used);
  }
  guest_put_u32(used_at, used);
  return OK;
}

/* The calls that name something by directory and path.
 *
 * Promises: the laws in wasi.h.
 */
#include "wasi.h"
#include "calls.h"

static u8 path_one[PATH_MAX], path_two[PATH_MAX];

/* The first half of every call with one path: descriptor and pointer are good. */
static Errno begin(u32 fd, Guest path, u32 size, Descriptor **descriptor) {
  Errno wrong = descriptor_directory(fd, descriptor);
  if (wrong) return wrong;
  return guest_has(path, size) ? OK : FAULT;
}

/* The second half: what does the path name? */
static Errno look(Descriptor *descriptor, Guest path, u32 size, int follow, Place *place) {
  Errno wrong = path_read(path_one, path, size);
  return wrong ? wrong : path_find(descriptor->node, path_one, size, follow, place);
}

static void add(const Place *place, Node *node, u64 more) {
  charge(ENTRY_COST + place->size + more);
  directory_add(place->parent, place->name, place->size, node);
  job.flags |= TREE_CHANGED;
}

static void take(const Place *place) {
  directory_remove(place->parent, place->name, place->size);
  job.flags |= TREE_CHANGED;
}

EXPORT(path_create_directory) Errno path_create_directory(u32 fd, Guest path, u32 size) {
  Descriptor *descriptor;
  Place place;
  Errno wrong = begin(fd, path, size, &descriptor);
  if (wrong || (wrong = look(descriptor, path, size, 0, &place)) || (wrong = place_vacant(&place))) return wrong;
  add(&place, node_new(TYPE_DIRECTORY), 0);
  return OK;
}

EXPORT(path_filestat_get) Errno path_filestat_get(u32 fd, u32 flags, Guest path, u32 size, Guest at) {
  Descriptor *descriptor;
  Place place;
  Errno wrong = begin(fd, path, size, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(at, FILESTAT)) return FAULT;
  if (flags >> 1) return INVAL;
  if ((wrong = look(descriptor, path, size, flags & 1, &place))) return wrong;
  if (!place.node) return NOENT;
  filestat_put(at, place.node);
  return OK;
}

EXPORT(path_filestat_set_times)
Errno path_filestat_set_times(u32 fd, u32 flags, Guest path, u32 size, u64 accessed, u64 modified, u32 which) {
  Descriptor *descriptor;
  Place place;
  Errno wrong = begin(fd, path, size, &descriptor);
  if (wrong) return wrong;
  if (flags >> 1) return INVAL;
  if ((wrong = times_set(NULL, 0, 0, which))) return wrong;
  if ((wrong = look(descriptor, path, size, flags & 1, &place))) return wrong;
  return place.node ? times_set(place.node, accessed, modified, which) : NOENT;
}

EXPORT(path_link)
Errno path_link(u32 from_fd, u32 flags, Guest from, u32 from_size, u32 to_fd, Guest to, u32 to_size) {
  Descriptor *source, *target;
  Place old, new;
  Errno wrong = descriptor_directory(from_fd, &source);
  if (wrong || (wrong = descriptor_directory(to_fd, &target))) return wrong;
  if (!guest_has(from, from_size) || !guest_has(to, to_size)) return FAULT;
  if (flags) return INVAL;
  if ((wrong = path_read(path_one, from, from_size)) || (wrong = path_read(path_two, to, to_size))) return wrong;
  if ((wrong = path_find(source->node, path_one, from_size, 0, &old))) return wrong;
  if (!old.node) return NOENT;
  if (old.node->type == TYPE_DIRECTORY) return PERM;
  if ((wrong = path_find(target->node, path_two, to_size, 0, &new)) || (wrong = place_vacant(&new))) return wrong;
  if (new.slashed) return NOENT;
  add(&new, old.node, 0);
  old.node->changed = now_ns();
  return OK;
}

/* ---- path_open ---- */

enum { CREAT = 1, DIRECTORY = 2, EXCL = 4, TRUNC = 8 };

static Errno open_existing(Node *node, u32 oflags, u32 rights) {
  if ((oflags & (CREAT | EXCL)) == (CREAT | EXCL)) return EXIST;
  if (node->type == TYPE_SYMLINK) return oflags & DIRECTORY ? NOTDIR : LOOP;
  if (node->type == TYPE_FILE) return oflags & DIRECTORY ? NOTDIR : OK;
  return (oflags & (CREAT | TRUNC)) || (rights & RIGHT_WRITE) ? ISDIR : OK;
}

static Errno open_new(const Place *place, u32 oflags) {
  if (!(oflags & CREAT)) return NOENT;
  return place->slashed ? ISDIR : place_vacant(place);
}

EXPORT(path_open)
Errno path_open(u32 fd, u32 flags, Guest path, u32 size, u32 oflags, u64 rights, u64 inherited, u32 fdflags, Guest at) {
  (void)inherited;
  Descriptor *descriptor;
  Place place;
  Errno wrong = begin(fd, path, size, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(at, 4)) return FAULT;
  if (flags >> 1 || oflags >> 4 || fdflags >> 5 || (oflags & (CREAT | DIRECTORY)) == (CREAT | DIRECTORY)) return INVAL;
  int follow = (flags & 1) && (oflags & (CREAT | EXCL)) != (CREAT | EXCL);
  if ((wrong = look(descriptor, path, size, follow, &place))) return wrong;
  u32 granted = (u32)rights & (RIGHT_READ | RIGHT_WRITE);
  if ((wrong = place.node ? open_existing(place.node, oflags, granted) : open_new(&place, oflags))) return wrong;
  if ((wrong = descriptor_room())) return wrong;
  if (!place.node) {
    place.node = node_new(TYPE_FILE);
    add(&place, place.node, 0);
  } else if ((oflags & TRUNC) && place.node->bytes.size) {
    bytes_resize(&place.node->bytes, 0);
    touch(place.node);
    job.flags |= TREE_CHANGED;
  }
  if (place.node->type == TYPE_DIRECTORY) granted = 0;
  else if (!granted) granted = RIGHT_READ | RIGHT_WRITE;
  u32 opened;
  descriptor_open(place.node, granted, fdflags, &opened);
  guest_put_u32(at, opened);
  return OK;
}

EXPORT(path_readlink) Errno path_readlink(u32 fd, Guest path, u32 size, Guest to, u32 room, Guest used_at) {
  Descriptor *descriptor;
  Place place;
  Errno wrong = begin(fd, path, size, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(to, room) || !guest_has(used_at, 4)) return FAULT;
  if ((wrong = look(descriptor, path, size, 0, &place))) return wrong;
  if (!place.node) return NOENT;
  if (place.node->type != TYPE_SYMLINK) return INVAL;
  u32 length = (u32)place.node->bytes.size, used = length < room ? length : room;
  bytes_read_to_guest(&place.node->bytes, 0, to, used);
  guest_put_u32(used_at, used);
  return OK;
}

EXPORT(path_remove_directory) Errno path_remove_directory(u32 fd, Guest path, u32 size) {
  Descriptor *descriptor;
  Place place;
  Errno wrong = begin(fd, path, size, &descriptor);
  if (wrong || (wrong = look(descriptor, path, size, 0, &place))) return wrong;
  if (!place.node) return NOENT;
  if (place.node->type != TYPE_DIRECTORY) return NOTDIR;
  if (place_dots(&place)) return place.size == 1 ? INVAL : NOTEMPTY;
  if (place.node->entry_count) return NOTEMPTY;
  take(&place);
  node_drop(place.node);
  return OK;
}

EXPORT(path_unlink_file) Errno path_unlink_file(u32 fd, Guest path, u32 size) {
  Descriptor *descriptor;
  Place place;
  Errno wrong = begin(fd, path, size, &descriptor);
  if (wrong || (wrong = look(descriptor, path, size, 0, &place))) return wrong;
  if (!place.node) return NOENT;
  if (place.node->type == TYPE_DIRECTORY) return ISDIR;
  take(&place);
  node_drop(place.node);
  return OK;
}

EXPORT(path_symlink) Errno path_symlink(Guest target, u32 target_size, u32 fd, Guest path, u32 size) {
  Descriptor *descriptor;
  Place place;
  Errno wrong = descriptor_directory(fd, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(target, target_size) || !guest_has(path, size)) return FAULT;
  if ((wrong = path_read(path_two, target, target_size))) return wrong;
  if ((wrong = look(descriptor, path, size, 0, &place)) || (wrong = place_vacant(&place))) return wrong;
  if (place.slashed) return NOENT;
  Node *link = node_new(TYPE_SYMLINK);
  add(&place, link, target_size);
  bytes_write_from_guest(&link->bytes, 0, target, target_size);
  return OK;
}

/* ---- path_rename ---- */

static int lies_within(Node *node, Node *ancestor) {
  while (node != ancestor && node != node->parent) node = node->parent;
  return node == ancestor;
}

static Errno may_replace(const Place *old, const Place *new) {
  int directory = old->node->type == TYPE_DIRECTORY;
  if (new->node && directory && new->node->type != TYPE_DIRECTORY) return NOTDIR;
  if (new->node && !directory && new->node->type == TYPE_DIRECTORY) return ISDIR;
  if (!new->node && !directory && new->slashed) return NOTDIR;
  if (directory && lies_within(new->parent, old->node)) return INVAL;
  if (new->node && new->node->entry_count) return NOTEMPTY;
  return new->node ? OK : place_vacant(new);
}

EXPORT(path_rename) Errno path_rename(u32 from_fd, Guest from, u32 from_size, u32 to_fd, Guest to, u32 to_size) {
  Descriptor *source, *target;
  Place old, new;
  Errno wrong = descriptor_directory(from_fd, &source);
  if (wrong || (wrong = descriptor_directory(to_fd, &target))) return wrong;
  if (!guest_has(from, from_size) || !guest_has(to, to_size)) return FAULT;
  if ((wrong = path_read(path_one, from, from_size)) || (wrong = path_read(path_two, to, to_size))) return wrong;
  if ((wrong = path_find(source->node, path_one, from_size, 0, &old))) return wrong;
  if ((wrong = path_find(target->node, path_two, to_size, 0, &new))) return wrong;
  if (place_dots(&old) || place_dots(&new)) return BUSY;
  if (!old.node) return NOENT;
  if (old.node == new.node) return OK;
  if ((wrong = may_replace(&old, &new))) return wrong;
  if (new.node) {
    take(&new);
    node_drop(new.node);
  }
  Node *moved = old.node;
  take(&old);
  directory_add(new.parent, new.name, new.size, moved);
  return OK;
}

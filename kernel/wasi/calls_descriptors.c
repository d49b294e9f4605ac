/* The calls on an open descriptor: reading, writing, seeking, and what is known about it.
 *
 * Promises: the laws in wasi.h. fd_close, fd_renumber and fd_readdir are in descriptors.c.
 */
#include "wasi.h"
#include "calls.h"

typedef struct { Guest at; u32 size; } Iovec;
static Iovec iovecs[IOVECS_MAX];

/* Law 1 for the four calls with vectors: the count, then the vector, then every buffer, then where the sum goes. */
static Errno iovecs_read(Guest at, u32 count, Guest sum_at, u64 *total) {
  if (count > IOVECS_MAX) return INVAL;
  if (!guest_has(at, (u64)count * sizeof(Iovec)) || !guest_has(sum_at, 4)) return FAULT;
  guest_read(iovecs, at, count * sizeof(Iovec));
  *total = 0;
  for (u32 i = 0; i < count; i++) {
    if (!guest_has(iovecs[i].at, iovecs[i].size)) return FAULT;
    *total += iovecs[i].size;
  }
  return OK;
}

static u32 read_at(Descriptor *descriptor, u64 offset, u32 count) {
  Bytes *bytes = &descriptor->node->bytes;
  u32 sum = 0;
  for (u32 i = 0; i < count && offset + sum < bytes->size; i++) {
    u64 left = bytes->size - offset - sum;
    u32 size = iovecs[i].size < left ? iovecs[i].size : (u32)left;
    bytes_read_to_guest(bytes, offset + sum, iovecs[i].at, size);
    sum += size;
  }
  return sum;
}

static Errno write_at(Descriptor *descriptor, u64 offset, u32 count, u64 total) {
  Node *node = descriptor->node;
  if (total == 0) return OK;
  if (offset > FILE_MAX || offset + total > FILE_MAX) return FBIG;
  if (offset + total > node->bytes.size) charge(offset + total - node->bytes.size);
  for (u32 i = 0; i < count; i++) {
    bytes_write_from_guest(&node->bytes, offset, iovecs[i].at, iovecs[i].size);
    offset += iovecs[i].size;
  }
  touch(node);
  if (descriptor->type == TYPE_FILE) job.flags |= TREE_CHANGED;
  return OK;
}

EXPORT(fd_read) Errno fd_read(u32 fd, Guest at, u32 count, Guest sum_at) {
  Descriptor *descriptor;
  u64 total;
  Errno wrong = descriptor_file(fd, &descriptor);
  if (wrong) return wrong;
  if (!(descriptor->rights & RIGHT_READ)) return BADF;
  if ((wrong = iovecs_read(at, count, sum_at, &total))) return wrong;
  u32 sum = read_at(descriptor, descriptor->offset, count);
  descriptor->offset += sum;
  guest_put_u32(sum_at, sum);
  return OK;
}

EXPORT(fd_pread) Errno fd_pread(u32 fd, Guest at, u32 count, u64 offset, Guest sum_at) {
  Descriptor *descriptor;
  u64 total;
  Errno wrong = descriptor_seekable(fd, &descriptor);
  if (wrong) return wrong;
  if (!(descriptor->rights & RIGHT_READ)) return BADF;
  if ((wrong = iovecs_read(at, count, sum_at, &total))) return wrong;
  if (offset >> 63) return INVAL;
  guest_put_u32(sum_at, read_at(descriptor, offset, count));
  return OK;
}

EXPORT(fd_write) Errno fd_write(u32 fd, Guest at, u32 count, Guest sum_at) {
  Descriptor *descriptor;
  u64 total;
  Errno wrong = descriptor_file(fd, &descriptor);
  if (wrong) return wrong;
  if (!(descriptor->rights & RIGHT_WRITE)) return BADF;
  if ((wrong = iovecs_read(at, count, sum_at, &total))) return wrong;
  int at_end = descriptor->type == TYPE_UNKNOWN || (descriptor->flags & FLAG_APPEND);
  u64 offset = at_end ? descriptor->node->bytes.size : descriptor->offset;
  if ((wrong = write_at(descriptor, offset, count, total))) return wrong;
  descriptor->offset = offset + total;
  guest_put_u32(sum_at, (u32)total);
  return OK;
}

EXPORT(fd_pwrite) Errno fd_pwrite(u32 fd, Guest at, u32 count, u64 offset, Guest sum_at) {
  Descriptor *descriptor;
  u64 total;
  Errno wrong = descriptor_seekable(fd, &descriptor);
  if (wrong) return wrong;
  if (!(descriptor->rights & RIGHT_WRITE)) return BADF;
  if ((wrong = iovecs_read(at, count, sum_at, &total))) return wrong;
  if (offset >> 63) return INVAL;
  if ((wrong = write_at(descriptor, offset, count, total))) return wrong;
  guest_put_u32(sum_at, (u32)total);
  return OK;
}

EXPORT(fd_seek) Errno fd_seek(u32 fd, i64 by, u32 whence, Guest offset_at) {
  Descriptor *descriptor;
  Errno wrong = descriptor_seekable(fd, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(offset_at, 8)) return FAULT;
  if (whence > 2) return INVAL;
  i64 base = whence == 0 ? 0 : (i64)(whence == 1 ? descriptor->offset : descriptor->node->bytes.size);
  i64 offset;
  if (__builtin_add_overflow(base, by, &offset) || offset < 0) return INVAL;
  descriptor->offset = (u64)offset;
  guest_put_u64(offset_at, descriptor->offset);
  return OK;
}

EXPORT(fd_tell) Errno fd_tell(u32 fd, Guest offset_at) {
  Descriptor *descriptor;
  Errno wrong = descriptor_seekable(fd, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(offset_at, 8)) return FAULT;
  guest_put_u64(offset_at, descriptor->offset);
  return OK;
}

EXPORT(fd_advise) Errno fd_advise(u32 fd, u64 offset, u64 size, u32 advice) {
  (void)offset, (void)size;
  Descriptor *descriptor;
  Errno wrong = descriptor_seekable(fd, &descriptor);
  if (wrong) return wrong;
  return advice > 5 ? INVAL : OK;
}

EXPORT(fd_allocate) Errno fd_allocate(u32 fd, u64 offset, u64 size) {
  (void)offset, (void)size;
  Descriptor *descriptor;
  Errno wrong = descriptor_file(fd, &descriptor);
  return wrong ? wrong : NOTSUP;
}

EXPORT(fd_sync) Errno fd_sync(u32 fd) {
  Descriptor *descriptor;
  return descriptor_any(fd, &descriptor);
}

EXPORT(fd_datasync) Errno fd_datasync(u32 fd) { return fd_sync(fd); }

/* ---- what is known about it ---- */

enum { FDSTAT = 24 };
#define RIGHTS_DIRECTORY 0x07B7FE00ull
#define RIGHTS_INHERITED 0x0FF7FFFFull
#define RIGHTS_FILE 0x08E001BDull
#define RIGHTS_STREAM 0x08200000ull

EXPORT(fd_fdstat_get) Errno fd_fdstat_get(u32 fd, Guest at) {
  Descriptor *descriptor;
  Errno wrong = descriptor_any(fd, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(at, FDSTAT)) return FAULT;
  struct { u8 type, pad; u16 flags; u32 pad_too; u64 rights, inherited; } stat = {.type = descriptor->type};
  stat.flags = (u16)descriptor->flags;
  stat.rights = descriptor->rights;
  if (descriptor->type == TYPE_DIRECTORY) stat.rights = RIGHTS_DIRECTORY, stat.inherited = RIGHTS_INHERITED;
  else stat.rights |= descriptor->type == TYPE_FILE ? RIGHTS_FILE : RIGHTS_STREAM;
  guest_write(at, &stat, FDSTAT);
  return OK;
}

EXPORT(fd_fdstat_set_flags) Errno fd_fdstat_set_flags(u32 fd, u32 flags) {
  Descriptor *descriptor;
  Errno wrong = descriptor_file(fd, &descriptor);
  if (wrong) return wrong;
  if (flags >> 5) return INVAL;
  if (flags & ~(u32)(FLAG_APPEND | FLAG_NONBLOCK)) return NOTSUP;
  descriptor->flags = flags;
  return OK;
}

EXPORT(fd_fdstat_set_rights) Errno fd_fdstat_set_rights(u32 fd, u64 rights, u64 inherited) {
  (void)rights, (void)inherited;
  Descriptor *descriptor;
  Errno wrong = descriptor_any(fd, &descriptor);
  return wrong ? wrong : NOTSUP;
}

void filestat_put(Guest at, Node *node) {
  u64 stat[FILESTAT / 8] = {1, node->inode, node->type, node->links, node->bytes.size};
  stat[5] = node->accessed, stat[6] = node->modified, stat[7] = node->changed;
  guest_write(at, stat, FILESTAT);
}

/* A stream is nobody's file: all zeros. */
EXPORT(fd_filestat_get) Errno fd_filestat_get(u32 fd, Guest at) {
  Descriptor *descriptor;
  Errno wrong = descriptor_any(fd, &descriptor);
  if (wrong) return wrong;
  if (!guest_has(at, FILESTAT)) return FAULT;
  static const u64 zeros[FILESTAT / 8];
  if (descriptor->type == TYPE_UNKNOWN) guest_write(at, zeros, FILESTAT);
  else filestat_put(at, descriptor->node);
  return OK;
}

EXPORT(fd_filestat_set_size) Errno fd_filestat_set_size(u32 fd, u64 size) {
  Descriptor *descriptor;
  Errno wrong = descriptor_file(fd, &descriptor);
  if (wrong) return wrong;
  if (descriptor->type == TYPE_UNKNOWN) return INVAL;
  if (!(descriptor->rights & RIGHT_WRITE)) return BADF;
  if (size > FILE_MAX) return FBIG;
  Node *node = descriptor->node;
  if (size == node->bytes.size) return OK;
  if (size > node->bytes.size) charge(size - node->bytes.size);
  bytes_resize(&node->bytes, size);
  touch(node);
  job.flags |= TREE_CHANGED;
  return OK;
}

Errno times_set(Node *node, u64 accessed, u64 modified, u32 flags) {
  enum { ATIM = 1, ATIM_NOW = 2, MTIM = 4, MTIM_NOW = 8 };
  if (flags >> 4 || (flags & (ATIM | ATIM_NOW)) == (ATIM | ATIM_NOW)) return INVAL;
  if ((flags & (MTIM | MTIM_NOW)) == (MTIM | MTIM_NOW)) return INVAL;
  if (!node) return OK; /* only the flags were asked about */
  if (flags & ATIM) node->accessed = accessed;
  if (flags & ATIM_NOW) node->accessed = now_ns();
  if (flags & MTIM) node->modified = modified;
  if (flags & MTIM_NOW) node->modified = now_ns();
  node->changed = now_ns();
  return OK;
}

EXPORT(fd_filestat_set_times) Errno fd_filestat_set_times(u32 fd, u64 accessed, u64 modified, u32 flags) {
  Descriptor *descriptor;
  Errno wrong = descriptor_any(fd, &descriptor);
  if (wrong) return wrong;
  if (descriptor->type == TYPE_UNKNOWN) return BADF;
  return times_set(descriptor->node, accessed, modified, flags);
}

EXPORT(fd_prestat_get) Errno fd_prestat_get(u32 fd, Guest at) {
  Descriptor *descriptor;
  if (descriptor_any(fd, &descriptor) || !descriptor->preopened) return BADF;
  if (!guest_has(at, 8)) return FAULT;
  guest_put_u64(at, 1ull << 32); /* tag 0: a directory; its name has one byte */
  return OK;
}

EXPORT(fd_prestat_dir_name) Errno fd_prestat_dir_name(u32 fd, Guest at, u32 room) {
  Descriptor *descriptor;
  if (descriptor_any(fd, &descriptor) || !descriptor->preopened) return BADF;
  if (!guest_has(at, room)) return FAULT;
  if (room < 1) return NAMETOOLONG;
  guest_write(at, "/", 1);
  return OK;
}

/* WASI preview 1 in memory: the types, the numbers and the few words every file here shares.
 *
 * Promises: the same bytes in give the same bytes out on every engine. There is no clock, no host file,
 * no network and no import but the three functions that reach the program's memory.
 * Does not know: which engine runs it, where the program came from, what a CID is.
 *
 * Reading order: memory.c, files.c, tree.c, paths.c, descriptors.c, then the calls, then job.c.
 * Source of names and numbers: WASI preview 1 (wasi_snapshot_preview1.witx).
 *
 * Laws
 *  1. A call checks in this order: the descriptor, counts, every pointer, the other arguments, the tree.
 *  2. Nothing has changed when a call returns an errno.
 *  3. What cannot be answered truthfully (no memory left, output limit) traps; it never becomes an errno,
 *     because a program would adapt to it and give another "result".
 */
#ifndef PROMISEGRID_WASI_H
#define PROMISEGRID_WASI_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef u32 Errno;
typedef u32 Guest; /* an address in the program's memory */

#define EXPORT(name) __attribute__((export_name(#name)))
#define NULL ((void *)0)

enum {
  OK = 0, BADF = 8, BUSY = 10, EXIST = 20, FAULT = 21, FBIG = 22, ILSEQ = 25, INVAL = 28, ISDIR = 31, LOOP = 32,
  MFILE = 33, NAMETOOLONG = 37, NOENT = 44, NOTDIR = 54, NOTEMPTY = 55, NOTSOCK = 57, NOTSUP = 58, PERM = 63,
  SPIPE = 70,
};
enum { TYPE_UNKNOWN = 0, TYPE_DIRECTORY = 3, TYPE_FILE = 4, TYPE_SYMLINK = 7 };
enum { RIGHT_READ = 1 << 1, RIGHT_WRITE = 1 << 6 };
enum { FLAG_APPEND = 1, FLAG_NONBLOCK = 4 };

/* Limits. Each is part of the specification: another number would be another machine. */
enum {
  NAME_MAX = 255,
  PATH_MAX = 4095,
  LINKS_MAX = 40,        /* symbolic links followed in one look-up */
  IOVECS_MAX = 1024,
  SUBSCRIPTIONS_MAX = 1024,
  DESCRIPTORS_MAX = 4096,
  ENTRY_COST = 64,       /* output charged for a new name, beside its bytes: bounds floods of empty files */
};
#define FILE_MAX (1ull << 31)
#define CLOCK_START_NS 946684800000000000ull /* 2000-01-01T00:00:00Z */
#define CLOCK_STEP_NS 1000ull

/* The bits of the result's flags word. */
enum { ENDED_EXIT = 1, ENDED_OUTPUT = 2, ENDED_MEMORY = 4, TREE_CHANGED = 8 };

/* ---- memory.c: our own memory, and the program's ---- */
void *allocate(u64 size);             /* zeroed; traps with ENDED_MEMORY when there is no more */
void *allocate_once(u64 size);        /* exact, never released: the blobs shared with the host */
void release(void *block, u64 size);  /* the size it was allocated with */
void copy(void *to, const void *from, u32 size);
void fill_zero(void *to, u32 size);
int compare(const u8 *a, u32 a_size, const u8 *b, u32 b_size); /* bytewise, a prefix is less */

int guest_has(Guest at, u64 size);    /* does [at, at+size) lie in the program's memory? */
void guest_read(void *to, Guest from, u32 size);   /* after guest_has */
void guest_write(Guest to, const void *from, u32 size);
void guest_put_u32(Guest to, u32 value);
void guest_put_u64(Guest to, u64 value);

/* ---- files.c: a growing string of bytes, in pages of 64 KiB ---- */
typedef struct {
  u64 size;
  const u8 *borrowed;  /* input still in the job's bytes, copied at the first write; else NULL */
  u8 **pages;          /* NULL entries read as zeros */
  u32 pages_room;
  u32 first_room;      /* bytes allocated for page 0, which is smaller in small files */
} Bytes;

void bytes_read_to_guest(Bytes *bytes, u64 offset, Guest to, u32 size);
void bytes_read(Bytes *bytes, u64 offset, u8 *to, u32 size);
void bytes_write_from_guest(Bytes *bytes, u64 offset, Guest from, u32 size);
void bytes_resize(Bytes *bytes, u64 size);
void bytes_free(Bytes *bytes);

/* ---- tree.c: nodes and names ---- */
typedef struct Node Node;
typedef struct { Node *node; u32 size; u8 name[]; } Entry;

struct Node {
  u8 type;
  u32 links, opens;          /* freed when both are 0 */
  u64 inode;
  u64 accessed, modified, changed; /* ns since 1970 */
  Bytes bytes;               /* a file's content, a symbolic link's target */
  Node *parent;              /* of a directory; the root's and a removed one's is itself */
  Entry **entries;           /* of a directory, in byte order of name */
  u32 entry_count, entry_room;
};

extern Node *root;
Node *node_new(u8 type);
void node_drop(Node *node);                       /* free it if nothing holds it */
Node *directory_find(Node *directory, const u8 *name, u32 size);
void directory_add(Node *directory, const u8 *name, u32 size, Node *node);
void directory_remove(Node *directory, const u8 *name, u32 size);
void touch(Node *node);                           /* content changed now */

/* ---- paths.c ---- */
typedef struct {
  Node *parent;   /* directory in which the last name lies */
  Node *node;     /* what is there, or NULL */
  const u8 *name; /* last name, "." or ".."; in a buffer that the next-but-one look-up overwrites */
  u32 size;
  int slashed;    /* a "/" followed the last name */
} Place;

Errno text_check(const u8 *text, u32 size);       /* NUL: INVAL; not UTF-8: ILSEQ */
Errno path_read(u8 *to, Guest path, u32 size);    /* after guest_has; at most PATH_MAX, not empty, valid, relative */
Errno path_find(Node *base, const u8 *path, u32 size, int follow, Place *place);
Errno place_vacant(const Place *place);           /* OK if a node can be added there */
int place_dots(const Place *place);               /* is the name "." or ".."? */

/* ---- descriptors.c ---- */
typedef struct {
  Node *node;        /* NULL: closed */
  u8 type;           /* TYPE_UNKNOWN for the three standard streams */
  u8 preopened;
  u32 rights;        /* RIGHT_READ | RIGHT_WRITE, of what can be read or written */
  u32 flags;
  u64 offset;
  u8 *listing;       /* fd_readdir's snapshot: dirents one after another; NULL before the first */
  u32 listing_size;
  u32 *listing_starts;
  u32 listing_count;
} Descriptor;

void descriptors_start(Node *in, Node *out, Node *err);
Errno descriptor_any(u32 fd, Descriptor **found);
Errno descriptor_file(u32 fd, Descriptor **found);       /* not a directory: BADF; a stream passes */
Errno descriptor_seekable(u32 fd, Descriptor **found);   /* a directory: BADF; a stream: SPIPE */
Errno descriptor_directory(u32 fd, Descriptor **found);  /* not a directory: NOTDIR */
Errno descriptor_open(Node *node, u32 rights, u32 flags, u32 *fd);
Errno descriptor_room(void);                              /* MFILE when every number is taken */

/* ---- job.c: what came in, what goes out ---- */
typedef struct {
  u32 flags, exit_code;
  u64 output_left;
  u64 result_max;                 /* what came in and what may go out: hard links cannot multiply it */
  u64 clock_ns;                   /* since the start */
  u32 random[4];
  u64 inodes;                     /* numbers given out so far */
  const u8 *args, *environ;       /* count × (u32 size, bytes), inside the job */
  u32 arg_count, environ_count;
} Job;

extern Job job;
u64 now_ns(void);                 /* the virtual wall clock, not advanced */
void charge(u64 size);            /* output; traps with ENDED_OUTPUT past the limit */
_Noreturn void end(u32 flag);     /* set the flag and trap */

#endif

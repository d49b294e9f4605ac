/* Preloaded into a process: what it does to the files below one folder is written down, in order, and can be
 * made to fail or to lie.
 *
 * POWERCUT_ROOT names the folder, POWERCUT_LOG the record: a row of entries, each a kind (one byte), the
 * offset or size (8 bytes), the lengths of path and data (4 and 4, all little-endian), path and data.
 * Kinds: C created, W written, T cut to a size, S synced, F not synced, U unlinked, R renamed, L linked (data: to), K mkdir, M mark.
 * A folder is synced under its own path. Shared memory (`-shm`) is no file: it does not outlive a power cut.
 *
 * powercut_fault(ops, at, times, error): the `at`th operation from now of those kinds fails, and as many
 * together as `times` says. A failed sync throws away, as Linux does, what it should have written.
 * powercut_lie(at, how): the `at`th read from now gives wrong bytes, once. powercut_count(op): since then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, CUT = 4, OPEN = 8, READ = 16, UNLINK = 32 };
enum { FILES = 4096 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *paths[FILES];
static const char *root;
static size_t root_length;
static int record = -1, fault_ops, fault_error, lie_how;
static long fault_at, fault_times, lie_at, counts[64];

#define REAL(name) \
  static __typeof__(name) *real; \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
  const char *log = getenv("POWERCUT_LOG");
  root = getenv("POWERCUT_ROOT");
  if (!root || !log) return;
  root_length = strlen(root);
  record = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int watched(const char *path) {
  size_t length = strlen(path);
  if (record < 0 || strncmp(path, root, root_length)) return 0;
  return length < 4 || strcmp(path + length - 4, "-shm");
}

static const char *path_of(int fd) { return fd >= 0 && fd < FILES ? paths[fd] : NULL; }

static void say(char kind, int64_t at, const char *path, const void *data, uint32_t size) {
  uint32_t length = (uint32_t)strlen(path);
  char head[17];
  struct iovec parts[3] = {{head, 17}, {(void *)path, length}, {(void *)data, size}};
  head[0] = kind;
  memcpy(head + 1, &at, 8);
  memcpy(head + 9, &length, 4);
  memcpy(head + 13, &size, 4);
  if (syscall(SYS_writev, record, parts, 3) != (long)(17 + length + size)) _exit(99);
}

/* Whether this operation is to fail; errno is set then. */
static int fails(int op) {
  counts[op]++;
  if (!(fault_ops & op) || --fault_at > 0 || fault_times-- <= 0) return 0;
  errno = fault_error;
  return 1;
}

void powercut_mark(const void *data, uint32_t size) {
  pthread_mutex_lock(&lock);
  say('M', 0, "", data, size);
  pthread_mutex_unlock(&lock);
}

void powercut_fault(int ops, long at, long times, int error) {
  fault_ops = ops, fault_at = at, fault_times = times, fault_error = error;
  memset(counts, 0, sizeof counts);
}

void powercut_lie(long at, int how) { lie_at = at, lie_how = how; }

long powercut_count(int op) { return counts[op]; }

static int opened(int fd, const char *path, int flags, int existed) {
  char whole[PATH_MAX];
  if (fd < 0 || fd >= FILES || record < 0) return fd;
  if (path[0] != '/' && (!getcwd(whole, sizeof whole - 256) || strlen(path) > 250)) return fd;
  if (path[0] != '/') path = strcat(strcat(whole, "/"), path);
  free(paths[fd]);
  paths[fd] = watched(path) ? strdup(path) : NULL;
  if (paths[fd] && (flags & O_CREAT) && !existed) say('C', 0, path, "", 0);
  if (paths[fd] && (flags & O_TRUNC) && existed) say('T', 0, path, "", 0);
  return fd;
}

#define OPENED(name, arguments, call) \
  int name arguments { \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
      va_list more; \
      va_start(more, flags); \
      mode = va_arg(more, mode_t); \
      va_end(more); \
    } \
    pthread_mutex_lock(&lock); \
    int existed = !syscall(SYS_faccessat, AT_FDCWD, path, F_OK), fd = -1; \
    if (!(record >= 0 && watched(path) && (flags & O_CREAT) && fails(OPEN))) fd = (int)(call); \
    opened(fd, path, flags, existed); \
    pthread_mutex_unlock(&lock); \
    return fd; \
  }
OPENED(open, (const char *path, int flags, ...), syscall(SYS_openat, AT_FDCWD, path, flags, mode))
OPENED(open64, (const char *path, int flags, ...), syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode))
OPENED(openat, (int at, const char *path, int flags, ...), syscall(SYS_openat, at, path, flags, mode))
OPENED(openat64, (int at, const char *path, int flags, ...), syscall(SYS_openat, at, path, flags, mode))

int close(int fd) {
  pthread_mutex_lock(&lock);
  if (path_of(fd)) free(paths[fd]), paths[fd] = NULL;
  pthread_mutex_unlock(&lock);
  return (int)syscall(SYS_close, fd);
}

static ssize_t wrote(int fd, const void *data, size_t size, int64_t at, int here) {
  const char *path = path_of(fd);
  ssize_t done;
  if (!path) return here ? syscall(SYS_write, fd, data, size) : syscall(SYS_pwrite64, fd, data, size, at);
  pthread_mutex_lock(&lock);
  if (here) at = lseek(fd, 0, SEEK_CUR);
  if (fails(WRITE)) {
    int why = errno;
    if (size > 512) { /* a full disk takes the first part */
      done = syscall(SYS_pwrite64, fd, data, size / 2 & ~(size_t)511, at);
      if (done > 0) say('W', at, path, data, (uint32_t)done);
    }
    errno = why, done = -1;
  } else {
    done = here ? syscall(SYS_write, fd, data, size) : syscall(SYS_pwrite64, fd, data, size, at);
    if (done > 0) say('W', at, path, data, (uint32_t)done);
  }
  pthread_mutex_unlock(&lock);
  return done;
}
ssize_t write(int fd, const void *data, size_t size) { return wrote(fd, data, size, 0, 1); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return wrote(fd, data, size, at, 0); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return wrote(fd, data, size, at, 0); }

static ssize_t got(int fd, void *data, size_t size, int64_t at) {
  ssize_t done = syscall(SYS_pread64, fd, data, size, at);
  if (!path_of(fd) || done <= 0) return done;
  pthread_mutex_lock(&lock);
  if (fails(READ)) done = -1;
  else if (lie_how && done > 512 && --lie_at <= 0) {
    unsigned char *bytes = data;
    if (lie_how == 1) bytes[(size_t)(at / 512 * 7919 + 311) % (size_t)done] ^= 16;
    if (lie_how == 2) memset(bytes + done / 512 / 2 * 512, 0, 512);
    if (lie_how == 3 && syscall(SYS_pread64, fd, data, done, at + done) < done) memset(data, 0, (size_t)done);
    lie_how = 0;
  }
  pthread_mutex_unlock(&lock);
  return done;
}
ssize_t pread(int fd, void *data, size_t size, off_t at) { return got(fd, data, size, at); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) { return got(fd, data, size, at); }

static int cut(int fd, int64_t size) {
  const char *path = path_of(fd);
  int done = -1;
  if (!path) return (int)syscall(SYS_ftruncate, fd, size);
  pthread_mutex_lock(&lock);
  if (!fails(CUT) && !(done = (int)syscall(SYS_ftruncate, fd, size))) say('T', size, path, "", 0);
  pthread_mutex_unlock(&lock);
  return done;
}
int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut(fd, size); }

static int synced(int fd) {
  const char *path = path_of(fd);
  int done = -1;
  if (!path) return (int)syscall(SYS_fsync, fd);
  pthread_mutex_lock(&lock);
  if (fails(SYNC)) say('F', 0, path, "", 0), errno = fault_error;
  else done = 0, say('S', 0, path, "", 0); /* the record is the disk: nothing needs to spin */
  pthread_mutex_unlock(&lock);
  return done;
}
int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

int unlink(const char *path) {
  int done = -1;
  pthread_mutex_lock(&lock);
  if (!watched(path)) done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  else if (!fails(UNLINK) && !(done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0))) say('U', 0, path, "", 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int rename(const char *from, const char *to) {
  pthread_mutex_lock(&lock);
  int done = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (!done && watched(to)) say('R', 0, from, to, (uint32_t)strlen(to));
  pthread_mutex_unlock(&lock);
  return done;
}

int linkat(int here, const char *from, int there, const char *to, int flags) {
  pthread_mutex_lock(&lock);
  int done = (int)syscall(SYS_linkat, here, from, there, to, flags);
  if (!done && watched(to)) say('L', 0, from, to, (uint32_t)strlen(to));
  pthread_mutex_unlock(&lock);
  return done;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdir(const char *path, mode_t mode) {
  pthread_mutex_lock(&lock);
  int done = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  if (!done && watched(path)) say('K', 0, path, "", 0);
  pthread_mutex_unlock(&lock);
  return done;
}

/* A stream that is written (LevelDB's files are): its buffer is emptied by the `write` above. */
static FILE *streams[FILES];

static ssize_t stream_write(void *fd, const char *data, size_t size) {
  ssize_t done = write((int)(intptr_t)fd, data, size);
  return done < 0 ? 0 : done;
}
static int stream_close(void *fd) { return streams[(intptr_t)fd] = NULL, close((int)(intptr_t)fd); }

static FILE *stream(const char *path, const char *mode) {
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (mode[0] == 'a' ? O_APPEND : O_TRUNC), 0644);
  if (fd < 0) return NULL;
  cookie_io_functions_t how = {.write = stream_write, .close = stream_close};
  FILE *made = fopencookie((void *)(intptr_t)fd, mode, how);
  if (path_of(fd)) streams[fd] = made;
  return made;
}

FILE *fopen(const char *path, const char *mode) {
  REAL(fopen);
  return (mode[0] == 'w' || mode[0] == 'a') && watched(path) ? stream(path, mode) : real(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
  REAL(fopen64);
  return (mode[0] == 'w' || mode[0] == 'a') && watched(path) ? stream(path, mode) : real(path, mode);
}

int fileno(FILE *file) {
  REAL(fileno);
  for (int fd = 0; fd < FILES; fd++)
    if (streams[fd] == file) return fd;
  return real(file);
}

/* The calls that touch no file: arguments, environment, clocks, randomness, polling, the end, sockets.
 *
 * Promises: time moves only when it is read or waited for; randomness comes from the job's seed alone.
 */
#include "wasi.h"

/* ---- arguments and environment: count × (u32 size, bytes), handed out as C strings ---- */

static const u8 *text_next(const u8 *at, u32 *size) {
  copy(size, at, 4);
  return at + 4;
}

static u64 texts_size(const u8 *at, u32 count) {
  u64 total = 0;
  for (u32 i = 0, size; i < count; i++) {
    at = text_next(at, &size) + size;
    total += size + 1;
  }
  return total;
}

static Errno texts_get(const u8 *at, u32 count, Guest pointers, Guest buffer) {
  if (!guest_has(pointers, (u64)count * 4) || !guest_has(buffer, texts_size(at, count))) return FAULT;
  for (u32 i = 0, size; i < count; i++) {
    at = text_next(at, &size);
    guest_put_u32(pointers + 4 * i, buffer);
    guest_write(buffer, at, size);
    guest_write(buffer + size, "", 1);
    buffer += size + 1;
    at += size;
  }
  return OK;
}

static Errno texts_sizes(const u8 *at, u32 count, Guest count_at, Guest size_at) {
  if (!guest_has(count_at, 4) || !guest_has(size_at, 4)) return FAULT;
  guest_put_u32(count_at, count);
  guest_put_u32(size_at, (u32)texts_size(at, count));
  return OK;
}

EXPORT(args_get) Errno args_get(Guest pointers, Guest buffer) {
  return texts_get(job.args, job.arg_count, pointers, buffer);
}
EXPORT(args_sizes_get) Errno args_sizes_get(Guest count_at, Guest size_at) {
  return texts_sizes(job.args, job.arg_count, count_at, size_at);
}
EXPORT(environ_get) Errno environ_get(Guest pointers, Guest buffer) {
  return texts_get(job.environ, job.environ_count, pointers, buffer);
}
EXPORT(environ_sizes_get) Errno environ_sizes_get(Guest count_at, Guest size_at) {
  return texts_sizes(job.environ, job.environ_count, count_at, size_at);
}

/* ---- clocks: 0 counts from 2000, the others (monotonic, process, thread) from the start ---- */

enum { CLOCKS = 4 };

u64 now_ns(void) { return CLOCK_START_NS + job.clock_ns; }

EXPORT(clock_res_get) Errno clock_res_get(u32 clock, Guest at) {
  if (!guest_has(at, 8)) return FAULT;
  if (clock >= CLOCKS) return INVAL;
  guest_put_u64(at, CLOCK_STEP_NS);
  return OK;
}

/* Advances before it answers: some programs take a first reading of 0 for a broken clock. */
EXPORT(clock_time_get) Errno clock_time_get(u32 clock, u64 precision, Guest at) {
  (void)precision;
  if (!guest_has(at, 8)) return FAULT;
  if (clock >= CLOCKS) return INVAL;
  job.clock_ns += CLOCK_STEP_NS;
  guest_put_u64(at, clock == 0 ? now_ns() : job.clock_ns);
  return OK;
}

/* ---- randomness: sfc32 (Chris Doty-Humphrey, PractRand); whole words, what is left of one is dropped ---- */

u32 random_next(void) {
  u32 *r = job.random;
  u32 result = r[0] + r[1] + r[3];
  r[3]++;
  r[0] = r[1] ^ (r[1] >> 9);
  r[1] = r[2] + (r[2] << 3);
  r[2] = (r[2] << 21 | r[2] >> 11) + result;
  return result;
}

EXPORT(random_get) Errno random_get(Guest at, u32 size) {
  if (!guest_has(at, size)) return FAULT;
  while (size) {
    u32 words[256];
    u32 part = size < sizeof words ? size : sizeof words;
    for (u32 i = 0; i * 4 < part; i++) words[i] = random_next();
    guest_write(at, words, part);
    at += part, size -= part;
  }
  return OK;
}

/* ---- poll_oneoff: what is a file is ready; waiting for clocks alone moves the clock ---- */

typedef struct {
  u64 userdata;
  u8 tag, pad[7];
  union {
    struct { u32 id, pad; u64 timeout, precision; u16 flags, pad_too[3]; } clock;
    u32 fd;
  };
} Subscription;
typedef struct { u64 userdata; u16 error; u8 type, pad[5]; u64 size; u64 flags; } Event;
_Static_assert(sizeof(Subscription) == 48 && sizeof(Event) == 32, "as the ABI lays them out");

enum { WAIT_CLOCK = 0, WAIT_READ = 1, WAIT_WRITE = 2, CLOCK_ABSOLUTE = 1 };
static Subscription subscriptions[SUBSCRIPTIONS_MAX];

static int clock_wrong(const Subscription *s) { return s->clock.id >= CLOCKS || s->clock.flags > CLOCK_ABSOLUTE; }

static u64 deadline(const Subscription *s) {
  u64 timeout = s->clock.timeout;
  if (!(s->clock.flags & CLOCK_ABSOLUTE)) return timeout > ~0ull - job.clock_ns ? ~0ull : job.clock_ns + timeout;
  if (s->clock.id) return timeout;
  return timeout > CLOCK_START_NS ? timeout - CLOCK_START_NS : 0;
}

static Errno ready(const Subscription *s, u64 *size) {
  Descriptor *descriptor;
  Errno wrong = descriptor_file(s->fd, &descriptor);
  if (wrong) return wrong;
  if (!(descriptor->rights & (s->tag == WAIT_READ ? RIGHT_READ : RIGHT_WRITE))) return BADF;
  u64 length = descriptor->node->bytes.size;
  if (s->tag == WAIT_READ && descriptor->offset < length) *size = length - descriptor->offset;
  return OK;
}

/* If nothing is ready at once, jump to the first deadline. */
static void wait(u32 count) {
  u64 first = ~0ull;
  for (u32 i = 0; i < count; i++) {
    const Subscription *s = &subscriptions[i];
    if (s->tag != WAIT_CLOCK || clock_wrong(s)) return;
    if (deadline(s) < first) first = deadline(s);
  }
  if (first > job.clock_ns) job.clock_ns = first;
}

EXPORT(poll_oneoff) Errno poll_oneoff(Guest in, Guest out, u32 count, Guest count_at) {
  if (count == 0 || count > SUBSCRIPTIONS_MAX) return INVAL;
  if (!guest_has(in, (u64)count * sizeof(Subscription)) || !guest_has(out, (u64)count * sizeof(Event))) return FAULT;
  if (!guest_has(count_at, 4)) return FAULT;
  guest_read(subscriptions, in, count * sizeof(Subscription));
  for (u32 i = 0; i < count; i++)
    if (subscriptions[i].tag > WAIT_WRITE) return INVAL;
  static u64 deadlines[SUBSCRIPTIONS_MAX]; /* relative ones count from now, not from after the jump */
  for (u32 i = 0; i < count; i++) deadlines[i] = deadline(&subscriptions[i]);
  wait(count);
  u32 events = 0;
  for (u32 i = 0; i < count; i++) {
    const Subscription *s = &subscriptions[i];
    Event event = {.userdata = s->userdata, .type = s->tag};
    if (s->tag != WAIT_CLOCK) event.error = (u16)ready(s, &event.size);
    else if (clock_wrong(s)) event.error = INVAL;
    else if (deadlines[i] > job.clock_ns) continue;
    guest_write(out + events++ * sizeof event, &event, sizeof event);
  }
  guest_put_u32(count_at, events);
  return OK;
}

/* ---- the end, and what there is none of ---- */

EXPORT(proc_exit) void proc_exit(u32 code) {
  job.exit_code = code;
  end(ENDED_EXIT);
}

EXPORT(proc_raise) Errno proc_raise(u32 signal) {
  (void)signal;
  return NOTSUP;
}

EXPORT(sched_yield) Errno sched_yield(void) { return OK; }

/* AssemblyScript's env.abort(message, file, line, column). */
EXPORT(abort) void abort(u32 message, u32 file, u32 line, u32 column) {
  (void)message, (void)file, (void)line, (void)column;
  __builtin_trap();
}

static Errno no_socket(u32 fd) {
  Descriptor *descriptor;
  Errno wrong = descriptor_any(fd, &descriptor);
  return wrong ? wrong : NOTSOCK;
}

EXPORT(sock_accept) Errno sock_accept(u32 fd, u32 flags, Guest at) {
  (void)flags, (void)at;
  return no_socket(fd);
}
EXPORT(sock_recv) Errno sock_recv(u32 fd, Guest at, u32 count, u32 flags, Guest size_at, Guest flags_at) {
  (void)at, (void)count, (void)flags, (void)size_at, (void)flags_at;
  return no_socket(fd);
}
EXPORT(sock_send) Errno sock_send(u32 fd, Guest at, u32 count, u32 flags, Guest size_at) {
  (void)at, (void)count, (void)flags, (void)size_at;
  return no_socket(fd);
}
EXPORT(sock_shutdown) Errno sock_shutdown(u32 fd, u32 how) {
  (void)how;
  return no_socket(fd);
}

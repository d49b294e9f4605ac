/* From a path to the place it names, never above the directory it starts from.
 *
 * Promises: ".." is physical (the parent of where we are, not of how we came); the start directory is a wall;
 * following ends after LINKS_MAX links; a path with a trailing "/" names a directory or nothing.
 * Does not know: which call asks, or what it will do there.
 */
#include "wasi.h"

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static u32 utf8_length(const u8 *at, u32 left) {
  u8 first = at[0];
  if (first < 0x80) return 1;
  u32 length = first >= 0xC2 && first < 0xE0 ? 2 : (first & 0xF0) == 0xE0 ? 3 : first >= 0xF0 && first < 0xF5 ? 4 : 0;
  if (length == 0 || length > left) return 0;
  for (u32 i = 1; i < length; i++)
    if ((at[i] & 0xC0) != 0x80) return 0;
  if (first == 0xE0 && at[1] < 0xA0) return 0;
  if (first == 0xED && at[1] >= 0xA0) return 0;
  if (first == 0xF0 && at[1] < 0x90) return 0;
  if (first == 0xF4 && at[1] >= 0x90) return 0;
  return length;
}

Errno text_check(const u8 *text, u32 size) {
  for (u32 i = 0; i < size; i++)
    if (text[i] == 0) return INVAL;
  for (u32 i = 0; i < size;) {
    u32 length = utf8_length(text + i, size - i);
    if (!length) return ILSEQ;
    i += length;
  }
  return OK;
}

Errno path_read(u8 *to, Guest path, u32 size) {
  if (size == 0) return NOENT;
  if (size > PATH_MAX) return NAMETOOLONG;
  guest_read(to, path, size);
  Errno wrong = text_check(to, size);
  if (wrong) return wrong;
  return to[0] == '/' ? PERM : OK;
}

/* Two look-ups may be held at once (rename, link), so two buffers take turns. */
static u8 buffers[2][2 * PATH_MAX + 2];
static u32 turn;

typedef struct { u8 *text; u32 at, size; } Walk;

/* The target of a link takes the place of its name: target, "/" if anything or a slash followed, the rest. */
static Errno splice(Walk *walk, Node *link, int slashed) {
  u32 target = (u32)link->bytes.size, rest = walk->size - walk->at;
  u32 total = target + (slashed ? 1 : 0) + rest;
  if (total > PATH_MAX) return NAMETOOLONG;
  u8 tail[PATH_MAX];
  copy(tail, walk->text + walk->at, rest);
  bytes_read(&link->bytes, 0, walk->text, target);
  if (walk->text[0] == '/') return PERM;
  if (slashed) walk->text[target] = '/';
  copy(walk->text + total - rest, tail, rest);
  walk->at = 0;
  walk->size = total;
  return OK;
}

static int is(const u8 *name, u32 size, const char *dots) {
  for (u32 i = 0; i < size; i++)
    if (dots[i] != name[i]) return 0; /* a NUL in dots stops us: names hold none */
  return dots[size] == 0;
}

static void next_name(Walk *walk, Place *place) {
  while (walk->at < walk->size && walk->text[walk->at] == '/') walk->at++;
  place->name = walk->text + walk->at;
  u32 start = walk->at;
  while (walk->at < walk->size && walk->text[walk->at] != '/') walk->at++;
  place->size = walk->at - start;
  u32 end_of_name = walk->at;
  while (walk->at < walk->size && walk->text[walk->at] == '/') walk->at++;
  place->slashed = walk->at > end_of_name;
}

Errno path_find(Node *base, const u8 *path, u32 size, int follow, Place *place) {
  Walk walk = {buffers[turn ^= 1], 0, size};
  copy(walk.text, path, size);
  Node *here = base;
  for (u32 links = 0;;) {
    next_name(&walk, place);
    int last = walk.at == walk.size;
    if (place->size > NAME_MAX) return NAMETOOLONG;
    place->parent = here;
    if (is(place->name, place->size, ".")) place->node = here;
    else if (is(place->name, place->size, "..")) {
      if (here == base) return PERM;
      place->node = here->parent;
    } else place->node = directory_find(here, place->name, place->size);
    if (!place->node) return last ? OK : NOENT;
    if (place->node->type == TYPE_SYMLINK && (!last || follow || place->slashed)) {
      if (++links > LINKS_MAX) return LOOP;
      Errno wrong = splice(&walk, place->node, place->slashed);
      if (wrong) return wrong;
      continue;
    }
    if (place->node->type != TYPE_DIRECTORY && (!last || place->slashed)) return NOTDIR;
    if (last) return OK;
    here = place->node;
  }
}

Errno place_vacant(const Place *place) {
  if (place->node) return EXIST;
  Node *parent = place->parent;
  return parent == root || parent->links ? OK : NOENT;
}

int place_dots(const Place *place) { return is(place->name, place->size, ".") || is(place->name, place->size, ".."); }

/* What the two files of file calls share. */
#ifndef PROMISEGRID_WASI_CALLS_H
#define PROMISEGRID_WASI_CALLS_H

#include "wasi.h"

enum { FILESTAT = 64 };
void filestat_put(Guest at, Node *node);
/* With no node: only whether the flags make sense. */
Errno times_set(Node *node, u64 accessed, u64 modified, u32 flags);

#endif

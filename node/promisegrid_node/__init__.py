"""PromiseGrid on CPython: the host of the kernel, and the command line."""

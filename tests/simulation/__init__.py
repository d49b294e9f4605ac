"""The kernel, as it is, in a seeded world on a virtual clock, with all that can go wrong."""

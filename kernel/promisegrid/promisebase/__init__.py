"""PromiseBase: what blocks, keys, streams and pins mean; the same on every backend, for it lives here."""

"""Reading, bounding and rewriting WebAssembly modules. Pure functions of bytes."""

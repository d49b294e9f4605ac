"""The Pyodide host: the kernel's ports on a browser's own engines, or on Node.js."""

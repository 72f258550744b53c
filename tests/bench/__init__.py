"""How fast is it, and how large? `make bench` measures; see docs/performance.md."""

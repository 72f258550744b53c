"""Does each package, by itself, do what its modules say? The tree mirrors the packages."""

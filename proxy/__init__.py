"""How do the Services of a cluster reach the kernel of this node? The wiring, the sources, the command line."""

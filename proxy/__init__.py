"""How do the Services of a cluster reach the kernel of this node?

Wiring, sources and the command line: the only package that knows all the others.
"""

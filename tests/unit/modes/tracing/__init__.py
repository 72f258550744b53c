"""Are the ways of packets read as the kernel tells them? No kernel is asked."""

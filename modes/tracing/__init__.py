"""The way of single packets through the kernel, whoever translates them."""

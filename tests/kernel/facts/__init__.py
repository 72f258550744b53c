"""Is what the kernel says of itself true of the packets that it gets?"""

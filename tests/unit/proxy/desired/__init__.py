"""Is it known what the kernel should hold, and who says so?"""

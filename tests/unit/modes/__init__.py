"""Do the modes say to the kernel what the plans mean?"""

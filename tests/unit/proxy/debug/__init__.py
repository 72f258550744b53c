"""Do the debug commands say the answer first, and the reason after it?"""

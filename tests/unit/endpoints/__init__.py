"""Does the pure core decide as REFERENCE A.2 says?"""

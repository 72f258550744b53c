"""What is decided about tracked flows, without a kernel?"""

"""What does a whole proxy cost, followed from an API server into the kernel, seen from outside?"""

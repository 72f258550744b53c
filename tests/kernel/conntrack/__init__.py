"""Does conntrack list and forget exactly what it is asked to?"""

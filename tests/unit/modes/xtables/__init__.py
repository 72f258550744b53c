"""Are the pure files of the xtables mode right, each by itself?"""

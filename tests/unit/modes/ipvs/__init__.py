"""Are the pure files of the IPVS mode right, each by itself?"""

"""Are the pure files of the nftables mode right, each by itself?"""

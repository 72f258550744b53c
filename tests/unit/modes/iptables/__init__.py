"""Are the pure files of the iptables mode right, each by itself?"""

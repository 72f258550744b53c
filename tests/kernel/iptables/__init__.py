"""Does the host's own iptables do what the iptables mode asks of it?"""

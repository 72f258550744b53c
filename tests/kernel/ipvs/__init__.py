"""Do IPVS, ipset and the link with the addresses do what the IPVS mode tells them?

ipset's own tests and the link's run on any kernel; those of IPVS where there is one (tests/uml).
"""

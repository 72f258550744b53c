"""What do packets meet in a kernel that this machine does not have? Debian's user-mode Linux, which has SCTP and IPVS."""

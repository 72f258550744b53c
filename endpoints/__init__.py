"""Which endpoint may answer a packet to a Service, seen from one node? Pure."""

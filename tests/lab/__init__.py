"""A virtual cluster of network namespaces: three nodes, six pods, a router and a client outside."""

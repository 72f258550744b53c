"""The iptables back end: kube-proxy's own chains; see README.md."""

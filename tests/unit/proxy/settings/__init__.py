"""Is what the operator says read as kube-proxy reads it, and told in one clear line?"""

"""Does the nftables mode keep its word to a real kernel?

Each test runs in the network namespace of its process, which is its own.
"""

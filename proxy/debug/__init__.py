"""What would this node do with a packet, and what does its kernel hold?"""

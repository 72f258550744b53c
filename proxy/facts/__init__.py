"""What does this machine do to a packet besides our rules?"""

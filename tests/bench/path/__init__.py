"""What does a packet pay for the rules that a proxy wrote?"""

"""What becomes of a connection that is watched on its way, and how does an operator read it?"""

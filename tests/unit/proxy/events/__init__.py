"""Is the right thing said of the right object?"""

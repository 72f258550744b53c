"""Is what breaks a connection told, and nothing else?"""

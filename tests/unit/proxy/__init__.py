"""Does the shell around the core do what its modules say?"""

"""What did the operator say, on the command line or in a file, and what is in force?"""

"""What holds for every cluster, whatever is in it?"""

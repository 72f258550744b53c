"""Does the Kubernetes API source lose, double or forget anything, whatever the server and the wire do?"""

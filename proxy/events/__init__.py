"""What does headgate tell Kubernetes of itself? Events, about objects and about its node."""

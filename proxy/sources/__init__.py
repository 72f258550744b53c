"""Where do Services, EndpointSlices and Nodes come from? The Kubernetes API, or manifest files."""

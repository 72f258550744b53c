"""What should this node's kernel hold? From a running headgate, an API server, files, a snapshot."""

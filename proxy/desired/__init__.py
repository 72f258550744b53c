"""What should this node's kernel hold? Says a running headgate, an API server, a file."""

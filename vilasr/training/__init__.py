"""What the training recipes need beside the libraries that train."""

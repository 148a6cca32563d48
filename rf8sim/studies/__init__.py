"""What is measured on a checkpoint."""

"""What runs agree on, and where ended runs are kept. Each store passes tests/contracts."""

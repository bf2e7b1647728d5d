"""Who calls: how a credential becomes a verified caller. What it may do is decided elsewhere."""

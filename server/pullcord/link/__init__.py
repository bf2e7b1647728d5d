"""The link between the control process and its workers: frames, and values in them."""

"""Lightning callbacks, the CSV logger and the CheckpointIO plugin of training runs."""

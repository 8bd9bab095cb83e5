"""Lightning callbacks, the logger of metrics.csv, and the CheckpointIO."""

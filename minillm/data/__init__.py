"""Where text comes from, and how it reaches the model."""

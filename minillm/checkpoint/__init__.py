"""Checkpoints and run folders: reading, validating and finding them, without torch."""

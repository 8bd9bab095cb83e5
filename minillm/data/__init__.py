"""Corpora, their tokenization, and batches of windows."""

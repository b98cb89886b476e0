"""Evaluation of a trained model: every example counted exactly once."""

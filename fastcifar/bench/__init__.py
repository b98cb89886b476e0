"""Measurement of the functions that training calls."""

"""Plots of a run, read from its folder. Nothing here imports TensorFlow."""

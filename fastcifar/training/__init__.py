"""The compiled step and the trainer around it."""

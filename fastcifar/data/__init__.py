"""Where examples come from, and the one place that knows their order."""

"""Other libraries' ways from a set of images to batches, for `bench pipelines`."""

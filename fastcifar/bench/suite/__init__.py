"""What a visit to a GPU host measures: `scripts/gpu_suite` (docs/gpu.md).

The process that runs the parts imports the standard library and nothing else, because it starts on
hosts where packages are missing, and is there to say which.
"""

"""What a profiler's trace says: reading it, naming its kernels, summing it up."""

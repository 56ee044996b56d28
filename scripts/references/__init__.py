"""The training step as others would write it, for `benchmark_training.py`: by hand, in stock Pyro, in NumPyro, and its floor."""

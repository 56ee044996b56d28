"""What others would write: the training step by hand, in stock Pyro, in NumPyro, and its floor; equilibria by Cantera."""

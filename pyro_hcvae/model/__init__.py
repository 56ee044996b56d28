"""The generative story and its guide as Pyro programs."""

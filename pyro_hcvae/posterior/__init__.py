"""Drawing from the trained model: recipes for conditions, completions of partial ones, densities."""

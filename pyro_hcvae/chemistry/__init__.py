"""What chemistry and engineering say of a recipe."""

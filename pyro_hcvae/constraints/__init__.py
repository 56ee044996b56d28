"""What a user asks of every proposed recipe, and how recipes are brought to satisfy it exactly."""

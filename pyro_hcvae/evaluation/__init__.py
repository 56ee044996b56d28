"""Honest scores on recipes, compositions or laboratories that the model has not seen."""

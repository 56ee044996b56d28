"""Figures. Every one is a function of tidy data that returns a matplotlib figure; nothing is drawn on a screen."""

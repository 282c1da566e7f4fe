"""Evaluation under distortions: corruptions that look at no model, and attacks over a distortion's parameters."""

"""What evaluations found, as files: records under attack and under distortions, their statistics and comparisons."""

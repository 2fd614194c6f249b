"""Training: recipes, run directories, and the loops of supervised and of reinforcement learning."""

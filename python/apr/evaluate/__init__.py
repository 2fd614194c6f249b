"""How good a model is: problems, rollouts of all of them at once, and what they come to."""

"""Threads of a language model: their events, the tree that these fold into, and the rollout that runs one tree."""

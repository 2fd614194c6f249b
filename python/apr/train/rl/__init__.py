"""Reinforcement learning over whole rollouts: parent and child threads together."""

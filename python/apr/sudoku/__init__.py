"""Sudoku of 4 by 4 cells, mostly with the sum of a diagonal: the second task."""

"""Solve a problem with the shipped model and print the tree of its threads.

python solve.py 22 26 31 53 27          # the numbers, then the target
"""

from sys import argv, exit

from rich import print

import apr

if len(argv) < 4:
    exit(__doc__)
*numbers, target = map(int, argv[1:])
tree = apr.load().run(apr.Problem(numbers, target), budget=4)
print(tree)
print("solved:" if tree.correct else "not solved", *tree.steps)

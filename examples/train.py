"""Train for two minutes on problems of two numbers, then count what the model solves.

python train.py --out runs/sums             # again: two minutes more
"""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import apr

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--recipe", default=str(Path(__file__).with_name("sums.toml")))
parser.add_argument("--seconds", type=float, default=120)
parser.add_argument("--problems", type=int, default=20)
options = parser.parse_args()

command = [sys.executable, "-m", "apr", "train", "sft", "--recipe", options.recipe, "--out", str(options.out)]
with subprocess.Popen(command) as training:
    try:
        training.wait(options.seconds)
    except subprocess.TimeoutExpired:
        training.send_signal(signal.SIGINT)  # It saves the step and ends.

newest = max((options.out / "checkpoints").iterdir(), key=lambda place: int(place.name))
model = apr.load(newest)
problems = list(apr.problems(options.problems, seed=0, numbers=2, min_target=1, split="test"))
solved = sum(model.run(problem).solved for problem in problems)
print(f"step {newest.name}: {solved} of {len(problems)} solved")

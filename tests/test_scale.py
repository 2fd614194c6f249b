"""The commands of docs/scale.md, run as they are written, by a shell whose `apr` trains tiny recipes on the CPU and
whose `torchrun` starts fewer processes. Those of servers are read by the parsers of the packages they come from."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from apr.engine.sglang.server import free_port
from apr.train.run import RunDirectory
from pages import blocks, page
from test_rl_runs import RECIPE as RL
from tiny_runs import SFT, sft

PLANNED, ONE, EIGHT, SERVED, MACHINES, SLURM = (block.replace("\\\n", " ") for block in blocks(page("scale.md"), "sh"))
STEPS = 4

APR = f"""
import sys
from apr.cli import main
from apr.train import recipes
recipes.recipe_text = lambda name, kind="": {{"": {SFT!r}, "rl": {RL!r}}}[kind]
words = [word.replace("24000", "{STEPS}") for word in sys.argv[1:]]
here = ["--device", "cpu", "--threads", "1"] if words[0] == "train" else []
sys.exit(main([*words, *here]))
"""
TORCHRUN = """
import sys
from torch.distributed.run import main
words = sys.argv[1:]
words[words.index("--nproc_per_node") + 1] = "1" if "--nnodes" in words else "2"
main(words)
"""
SRUN = """
import subprocess, sys
nodes = [subprocess.Popen(sys.argv[1:]) for _ in range(2)]
sys.exit(max(node.wait() for node in nodes))
"""
SCONTROL = "print('127.0.0.1\\nanother')"


def started(block: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """A shell at these commands, stopped by the first that fails."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for name, program in (("apr", APR), ("torchrun", TORCHRUN), ("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(f"#!{sys.executable}\n{program}")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", **variables}
    text = block.replace("/shared/", f"{folder}/")
    return subprocess.Popen(["bash", "-euc", text], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*shells: subprocess.Popen[str]) -> None:
    for shell in shells:
        _, said = shell.communicate(timeout=1200)
        assert shell.returncode == 0, said


def losses(run: Path) -> list[float]:
    found = {entry["step"]: entry["loss"] for entry in RunDirectory(run).entries()}
    return [found[step] for step in sorted(found)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of the recipe by one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert sft(out) == 0
    return losses(out)


def test_plans(tmp_path: Path) -> None:
    finish(started(PLANNED, tmp_path))


def test_one_gpu(alone: list[float], tmp_path: Path) -> None:
    """All but the script that measures a GPU, which takes minutes even with --cpu."""
    finish(started(re.sub(r"^bash .*", "", ONE, flags=re.MULTILINE), tmp_path))
    assert losses(tmp_path / "runs/small") == pytest.approx(alone, rel=1e-4)
    assert RunDirectory(tmp_path / "runs/rl").steps()[-1] == STEPS


def test_eight_gpus(alone: list[float], tmp_path: Path) -> None:
    finish(started(EIGHT, tmp_path))
    assert losses(tmp_path / "runs/small") == pytest.approx(alone, rel=1e-4)


def test_two_machines(alone: list[float], tmp_path: Path) -> None:
    """Two agents of `torchrun`, of a process each, that meet as those of two machines do."""
    block = MACHINES.replace("29500", str(free_port()))
    finish(*(started(block, tmp_path, HEAD="127.0.0.1") for _ in range(2)))
    assert losses(tmp_path / "runs/small") == pytest.approx(alone, rel=1e-4)
    assert RunDirectory(tmp_path / "runs/rl").steps()[-1] == STEPS


def test_slurm(alone: list[float], tmp_path: Path) -> None:
    variables = {"SLURM_JOB_NODELIST": "two", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    finish(started(SLURM.replace("29500", str(free_port())), tmp_path, **variables))
    assert losses(tmp_path / "runs/small") == pytest.approx(alone, rel=1e-4)


PARSERS = {
    "sglang": "from sglang.srt.server_args import ServerArgs as Arguments",
    "sglang_router": "from sglang_router.router_args import RouterArgs as Arguments",
}


@pytest.mark.parametrize("package", PARSERS)
def test_servers_take_their_options(package: str) -> None:
    """Servers that start are tested elsewhere (test_sglang.py): here, that these packages know what the page says."""
    if importlib.util.find_spec(package) is None:
        pytest.skip("the extra sglang is not installed")
    options = list(_options(package))
    assert options
    program = (
        f"import argparse, json, sys\n{PARSERS[package]}\n"
        "parser = argparse.ArgumentParser()\nArguments.add_cli_args(parser)\n"
        "for words in json.loads(sys.argv[1]):\n    parser.parse_args(words)"
    )
    words = [sys.executable, "-c", program, json.dumps(options)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr


def _options(package: str) -> Sequence[list[str]]:
    """What the page gives to a package's program, with a number for each of the shell's."""
    found = re.findall(rf"python -m {package}\.launch_\w+ (.*?) &", SERVED)
    plain = [re.sub(r"\{4,5,6,7\}|\$gpu", "4", words) for words in found]
    return [shlex.split(words) for words in plain]

"""Runs a module of others with the environment's key as its `--api-key`:
`python -m apr.engine.sglang.launch MODULE ...`.

Every user of a machine may read the command line of a process, its environment only who owns it.
"""

from __future__ import annotations

import os
import runpy
import sys

from apr.engine import API_KEY


def main(module: str, arguments: list[str]) -> None:
    """Run the module as `python -m` would."""
    key = os.environ.pop(API_KEY, None)
    sys.argv = [module, *arguments, *([] if key is None else ["--api-key", key])]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

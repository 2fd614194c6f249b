"""SGLang's server for machines without a GPU: `python -m apr.engine.sglang.forked ...`, with its own arguments.

A server is three processes, and SGLang starts each with an interpreter of its own, since what holds a GPU cannot be
forked: each imports all of SGLang, which takes most of a minute and 1.1 GB. Without a GPU they are forks of the first.
"""

from __future__ import annotations

import multiprocessing
import runpy
import sys
from typing import Any

# Kernels for GPUs, a quarter of all that is imported: SGLang does without where there are none.
sys.modules["flashinfer"] = None  # type: ignore[assignment]

from sglang.srt.plugins.hook_registry import HookRegistry, HookType  # noqa: E402

_SETTINGS = "sglang.srt.entrypoints.engine._set_envs_and_config"
"""What says how processes are started, before the first is."""


def _fork(result: Any, *_: Any) -> Any:
    multiprocessing.set_start_method("fork", force=True)
    return result


if __name__ == "__main__":
    HookRegistry.register(_SETTINGS, _fork, HookType.AFTER)
    runpy.run_module("sglang.launch_server", run_name="__main__", alter_sys=True)

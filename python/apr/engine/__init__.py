"""What samples: the protocol in `base`, one engine a file, and the one place that knows their names."""

from __future__ import annotations

from typing import Any

from apr.engine.base import Engine

ENGINES = ("native", "torch", "sglang")
API_KEY = "APR_API_KEY"
"""The environment variable that holds the key of servers."""


def load_engine(name: str, model: Any, **options: Any) -> Engine:
    """An engine by its name. `model` is a directory in Hugging Face layout (or, for "torch", a loaded model);
    an option the engine does not know is a TypeError."""
    if name == "native":
        from apr.engine.native import NativeEngine

        return NativeEngine(model, **options)
    if name == "torch":
        from apr.engine.torch import TorchEngine

        return TorchEngine(model, **options)
    if name == "sglang":
        from apr.engine.sglang.client import open_sglang

        return open_sglang(model, **options)
    raise ValueError(f"unknown engine {name!r}: choose one of {', '.join(ENGINES)}")

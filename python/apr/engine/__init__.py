"""What samples: the protocol in `base`, one engine a file, and the one place that knows their names."""

from __future__ import annotations

from typing import Any

from apr.engine.base import Engine
from apr.plugins import find

GROUP = "apr.engines"
"""The entry-point group of others' engines: each is called with the model and the options."""
ENGINES = ("native", "torch", "sglang")
API_KEY = "APR_API_KEY"
"""The environment variable that holds the key of servers."""


def check(name: str) -> None:
    """ValueError, with the names there are, for a name that no engine has."""
    if name not in ENGINES:
        find(GROUP, name, known=ENGINES)


def load_engine(name: str, model: Any, **options: Any) -> Engine:
    """An engine by its name. `model` is a directory in Hugging Face layout (or, for "torch", a loaded model);
    an option that these do not know is a TypeError. Other names are those of the entry-point group, or
    `module:attribute`; ValueError if there is none, or if it is no engine."""
    if name == "native":
        from apr.engine.native import NativeEngine

        return NativeEngine(model, **options)
    if name == "torch":
        from apr.engine.torch import TorchEngine

        return TorchEngine(model, **options)
    if name == "sglang":
        from apr.engine.sglang.client import open_sglang

        return open_sglang(model, **options)
    found = find(GROUP, name, known=ENGINES)
    try:
        engine: Engine = found(model, **options)
    except TypeError as error:
        raise ValueError(f"the engine {name!r} is none: {error}") from error
    if not hasattr(engine, "generate"):
        raise ValueError(f"the engine {name!r} is none: it samples nothing")
    return engine

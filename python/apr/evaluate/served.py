"""What a running server serves, and its cache: what an evaluation must know of an engine that it did not start."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from apr.engine import API_KEY
from apr.engine.base import EngineError
from apr.evaluate.setting import digest
from apr.jsonl import parse

_SECONDS = 10.0
_MOST = 1 << 20
"""Bytes of an answer that are read."""


def served_model(url: str, models: Mapping[str, Path]) -> str:
    """The model behind an address, in words; none where its files are at hand and those of the checkpoints, which are
    given by name. EngineError if it does not tell, or has other weights than these."""
    try:
        told = parse(_ask(url, "GET", "/model_info"))
    except ValueError as error:
        raise EngineError(f"{url} is no SGLang server: {error}") from None
    if not isinstance(told, dict):
        raise EngineError(f"{url} is no SGLang server: it does not tell what it serves")
    path = str(told.get("model_path"))
    if not (Path(path) / "config.json").is_file():
        return f"{path}, version {told.get('weight_version')}"
    for name, checkpoint in models.items():
        if digest(checkpoint, "weights") != digest(path, "weights"):
            raise EngineError(f"{url} serves {path}, which has other weights than {name}: name it with --model")
    return ""


def empty_cache(url: str) -> None:
    """Make a server forget all prompts. EngineError if it does not."""
    _ask(url, "POST", "/flush_cache")


def _ask(url: str, method: str, path: str) -> str:
    key = os.environ.get(API_KEY)
    try:
        headers: dict[str, Any] = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(url.rstrip("/") + path, method=method, headers=headers)
        # As the engine does, it asks the address itself, whatever proxy the environment names.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=_SECONDS) as answer:
            text: str = answer.read(_MOST).decode(errors="replace")
            return text
    except urllib.error.HTTPError as error:
        raise EngineError(f"{url} answered {path} with status {error.code}") from None
    except (OSError, ValueError, HTTPException) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise EngineError(f"no server at {url}: {why}") from None

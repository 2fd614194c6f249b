"""Two real searches of one problem: ten children at once, on an engine that tells where time goes, and a serial one."""

from __future__ import annotations

from pathlib import Path

from apr.threads.events import read_events

TWO_SEARCHES = Path(__file__).parent / "golden" / "two_searches.jsonl"
IN_THREADS = [line for line in TWO_SEARCHES.read_text().splitlines(keepends=True) if '"rollout":"apr"' in line]
"""The lines of the one in threads."""
APR = [event for event in read_events(TWO_SEARCHES) if event.rollout == "apr"]
"""Its events."""

"""A log of events on disk: read as it grows, and found again in it what memory has dropped.

Files may be missing yet, half-written, cut off, or replaced by a new one under the same name; memory holds the
offsets of rollouts, never their text.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

from apr.threads.events import Event, RolloutFinished, RolloutStarted, from_json, open_log

Batch = tuple[Event, ...]

_BLOCK = 1 << 20
"""Bytes read at once."""
_PROOF = 64
"""Bytes before the place reached that must still be there: then it is the same file."""
_READ_S = 0.03
"""Seconds of one frame spent on reading, so that a long log does not hold up the keys."""
RECENT = 16
"""Rollouts of a long log that are read at once; earlier ones when somebody asks for them."""
_START = b'{"event":"rollout_started"'


def _same(file: BinaryIO, inode: int | None, offset: int, before: bytes) -> bool:
    """Whether this is the file that was read so far, and still holds what was read last."""
    if inode is not None and os.fstat(file.fileno()).st_ino != inode:
        return False
    file.seek(offset - len(before))
    return file.read(len(before)) == before


class LineTail:
    """The whole lines of a growing file, each once."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        """Bytes read so far: always the begin of a line."""
        self.restarts = 0
        """How often reading began anew, as the file was cut off or replaced."""
        self._before = b""
        self._inode: int | None = None

    def poll(self) -> list[bytes]:
        """Lines that have come since the last poll, with their newlines: about a megabyte at most."""
        try:
            file = open_log(self.path)
        except OSError:
            return []
        with file:
            if not _same(file, self._inode, self.offset, self._before):
                self.offset, self._before = 0, b""
                self.restarts += 1
            self._inode = os.fstat(file.fileno()).st_ino
            file.seek(self.offset)
            data = file.read(_BLOCK)
            while data and b"\n" not in data:
                more = file.read(len(data))
                if not more:
                    return []
                data += more
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        if whole:
            self._before = whole[-_PROOF:]
        return whole.splitlines(keepends=True)


class Library:
    """Where the rollouts of a log begin. Lines are found by how `to_json` begins them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts: dict[str, int] = {}
        """Rollout -> offset of its last start, in order of starting."""
        self._scanned = 0
        self._before = b""
        self._inode: int | None = None

    def scan(self) -> None:
        """Find the rollouts that have started since the last scan."""
        try:
            file = open_log(self.path)
        except OSError:
            return
        with file:
            if not _same(file, self._inode, self._scanned, self._before):
                self.starts, self._scanned, self._before = {}, 0, b""
            self._inode = os.fstat(file.fileno()).st_ino
            file.seek(self._scanned)
            rest = b""
            while block := file.read(_BLOCK):
                data = rest + block
                end = data.rfind(b"\n") + 1
                self._find(data, end)
                self._scanned += end
                if end:
                    self._before = data[max(0, end - _PROOF) : end]
                rest = data[end:]

    def _find(self, data: bytes, end: int) -> None:
        at = data.find(_START, 0, end)
        while at >= 0:
            if at == 0 or data[at - 1 : at] == b"\n":
                try:
                    rollout = from_json(data[at : data.index(b"\n", at)]).rollout
                except ValueError:
                    pass
                else:
                    self.starts.pop(rollout, None)
                    self.starts[rollout] = self._scanned + at
            at = data.find(_START, at + 1, end)

    def neighbour(self, rollout: str | None, by: int) -> str | None:
        """The rollout that started so many before or after this one, as far as there is one."""
        ids = list(self.starts)
        if not ids:
            return None
        here = ids.index(rollout) if rollout in self.starts else len(ids) - 1
        return ids[max(0, min(len(ids) - 1, here + by))]

    def position(self, rollout: str | None) -> tuple[int, int]:
        """Which one of how many it is, counted from 1; 0 if unknown."""
        ids = list(self.starts)
        return (ids.index(rollout) + 1 if rollout in self.starts else 0), len(ids)

    def lines(self, rollout: str) -> list[bytes]:
        """The log's lines of one rollout, from its last start to its end or as far as there are any."""
        if rollout not in self.starts:
            return []
        mark = f'"rollout":{json.dumps(rollout)}'.encode()
        found: list[bytes] = []
        with open_log(self.path) as file:
            file.seek(self.starts[rollout])
            for line in file:
                if mark in line and line.endswith(b"\n"):
                    found.append(line)
                    if line.startswith(b'{"event":"rollout_finished"'):
                        break
        return found

    def events(self, rollout: str) -> Batch:
        """The events of one rollout; ValueError for a line that is none."""
        events = (from_json(line) for line in self.lines(rollout))
        return tuple(event for event in events if event.rollout == rollout)


class LogFeed:
    """A log as it is and as it grows, without end. Of a long one, it reads the last rollouts only."""

    ended = False

    def __init__(self, path: Path, keep: int = RECENT) -> None:
        self.library = Library(path)
        self.library.scan()
        starts = list(self.library.starts.values())
        self._tail = LineTail(path, starts[-keep] if len(starts) > keep else 0)
        self._skips = len(starts) > keep
        """Rollouts may go on here that began before, and are left out."""
        self._begun: set[str] = set()
        self._lines: deque[bytes] = deque()
        self.complaint: str | None = None
        """The last line that was no event."""
        self.behind = True
        """There is more to read than was read."""

    @property
    def restarts(self) -> int:
        """How often the log was begun anew: what was read before is no longer in it."""
        return self._tail.restarts

    def take(self) -> Batch:
        """What has come since, as much as a part of a frame allows."""
        events: list[Event] = []
        before, end = self.restarts, time.monotonic() + _READ_S
        while time.monotonic() < end:
            if not self._lines:
                self._lines.extend(self._tail.poll())
                if self.restarts != before:
                    events, before, self._skips = [], self.restarts, False
                if not self._lines:
                    self.behind = False
                    return tuple(events)
            self.behind = True
            for _ in range(min(64, len(self._lines))):
                if (event := self._read(self._lines.popleft())) is not None:
                    events.append(event)
        return tuple(events)

    def _read(self, line: bytes) -> Event | None:
        try:
            event = from_json(line)
        except ValueError as error:
            self.complaint = str(error)
            return None
        if self._skips:
            if isinstance(event, RolloutStarted):
                self._begun.add(event.rollout)
            elif event.rollout not in self._begun:
                return None
            elif isinstance(event, RolloutFinished):
                self._begun.discard(event.rollout)
        return event

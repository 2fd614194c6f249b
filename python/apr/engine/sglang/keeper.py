"""Runs a command and ends its process group when standard input does: `python -m apr.engine.sglang.keeper COMMAND...`.

Whoever starts the keeper holds the other end of its input. It closes with that process, even if killed, so nothing the
command started outlives it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_GRACE_S = 10.0


def main(command: list[str]) -> int:
    """Run the command until it ends or the input does; its exit status as a shell tells it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)

    def send(number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    def end() -> None:
        send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S)
        send(signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        end()

    threading.Thread(target=watch, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=end, daemon=True).start())
    status = child.wait()
    # Workers of a server that ended are of no use to anybody.
    send(signal.SIGKILL)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

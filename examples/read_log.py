"""Read a log of events with pandas: when each thread ran, what it cost and how it ended.

apr solve 22 26 31 53 --target 27 --json > events.jsonl
python read_log.py events.jsonl
"""

import json
from pathlib import Path
from sys import argv

import pandas as pd

# Of one rollout; `read_json` would take the threads' ids for numbers.
log = pd.DataFrame([json.loads(line) for line in Path(argv[1]).read_text().splitlines()])
by_thread = {kind: events.set_index("thread") for kind, events in log.dropna(subset="thread").groupby("event")}

table = pd.DataFrame(
    {
        "opened": by_thread["thread_opened"]["time"],
        "closed": by_thread["thread_closed"]["time"],
        "tokens": by_thread["tokens_sampled"]["token_ids"].str.len().groupby("thread").sum(),
        "cached": by_thread["call_finished"]["cached_tokens"].groupby("thread").sum().astype(int),
        "reason": by_thread["thread_closed"]["reason"],
    }
)
print(table.to_string())
print(f"{table['tokens'].sum()} tokens, {(table['closed'] - table['opened']).max():.2f} s the longest thread")

"""Teaches a tiny Llama the recorded dialogues by heart, so that real engines write them: `python tests/memorise.py`.

What it makes stands in `golden/dialogues/model`, whose tokenizer spells every tag in several tokens.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import llama_style
from apr.testing.scripted import ScriptedEngine
from apr.threads.run import run_threads
from apr.tokenizer import ForeignTokenizer
from apr.train.rl.samples import tree_samples
from apr.types import Sample
from dialogues import FOLDER, NAMES, Asked, Dialogue, Played

STEPS, RATE = 600, 3e-3


def samples(tokenizer: ForeignTokenizer) -> list[Sample]:
    """Every thread of every dialogue."""

    found: list[Sample] = []
    for dialogue in map(Dialogue.read, NAMES):
        language = dialogue.written_in(tokenizer)
        engine = ScriptedEngine(dialogue.texts(language), Played(tokenizer))
        tree = run_threads(dialogue, engine, task=Asked(), language=language)  # type: ignore[arg-type]
        found += tree_samples(tree)
    return found


def main() -> None:
    torch.manual_seed(0)
    words = llama_style.train()
    tokenizer = ForeignTokenizer(words, llama_style.BEGIN, llama_style.END)
    rows = samples(tokenizer)
    longest = max(len(row.token_ids) for row in rows)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=192, max_position_embeddings=2 * longest, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos, eos_token_id=tokenizer.eos,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    ids_BT = torch.zeros(len(rows), longest, dtype=torch.long)
    loss_BT = torch.full_like(ids_BT, -100)
    for ids_T, loss_T, row in zip(ids_BT, loss_BT, rows, strict=True):
        ids_T[: len(row.token_ids)] = torch.tensor(row.token_ids)
        own = torch.tensor(row.loss_mask).nonzero()[:, 0]
        loss_T[own] = ids_T[own]
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(STEPS):
        loss = model(input_ids=ids_BT, labels=loss_BT).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == STEPS - 1:
            print(step, f"{loss.item():.5f}", flush=True)
    directory = FOLDER / "model"
    model.save_pretrained(directory)
    # What servers load is the file alone.
    llama_style.save(words, directory, "PreTrainedTokenizerFast")


if __name__ == "__main__":
    main()

"""Losses: tensors in, (loss, metrics) out, no effects.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sft_loss(
    logits_BTV: Tensor, token_ids_BT: Tensor, loss_mask_BT: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy, in nats, SUMMED over the tokens that the model itself must write.

    `loss_mask_BT` marks those tokens; each is predicted from the position before it. The metrics hold how many there
    are ("tokens") and how many the model would have written right, greedily ("right").
    """
    targets = token_ids_BT[:, 1:].masked_fill(~loss_mask_BT[:, 1:], -100)
    logits = logits_BTV[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=-100, reduction="sum"
    )
    with torch.no_grad():
        right = (logits.argmax(-1) == targets).sum()
    return loss, {"tokens": loss_mask_BT[:, 1:].sum(), "right": right}

"""In which precision a device computes."""

from __future__ import annotations

import torch

from apr.train.recipes import Autocast


def has_bfloat16(device: torch.device) -> bool:
    """Whether it computes in bfloat16 itself. A processor that does not emulates it, many times slower than float32."""
    return device.type != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compute_dtype(wanted: Autocast, device: torch.device) -> torch.dtype:
    """What a forward pass computes in."""
    bfloat16 = has_bfloat16(device) if wanted == "auto" else wanted == "bf16"
    return torch.bfloat16 if bfloat16 else torch.float32

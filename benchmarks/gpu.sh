#!/usr/bin/env bash
# What one GPU makes of APR, within --minutes (12): the tests that need one, supervised steps as they are, with recorded CUDA
# graphs and (--compile, which takes minutes) with torch.compile, and what share of the GPU's products they reach, steps of
# reinforcement learning on the torch engine; and, with the time that is left, models of the recipe `small` or another.
# Needs Python 3.11 or newer with torch, transformers, safetensors, rich, filelock and pytest, no network, and this
# repository, installed, or with a wheel in dist/ (`uv build --wheel`).
#
#   bash benchmarks/gpu.sh [--cpu] [--recipe NAME|FILE] [--methods M ...] [--parts P ...] [--compile] [--minutes N] [--out DIR]
#   bash benchmarks/gpu.sh --recipe tiny --methods apr sos+ --parts training         both models, side by side
#                                                               --cpu: all of it at sizes of a minute, to try this script
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
"$python" -c 'import torch, transformers' 2>/dev/null || { echo "$python has no torch or no transformers; PYTHON=... names another" >&2; exit 2; }
# The extension, and the metadata that says which tasks, languages and engines there are.
unpacked=target/gpu
export PYTHONPATH="$PWD/python:$PWD/$unpacked${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if ! "$python" -c 'from importlib.metadata import distribution; import apr._core; distribution("apr")' 2>/dev/null; then
    wheel=$(ls -t dist/apr-*-abi3-*.whl 2>/dev/null | head -n 1) || true
    [ -n "$wheel" ] || { echo "apr is not installed for $python, and there is no wheel in dist/: uv build --wheel" >&2; exit 2; }
    rm -rf "$unpacked"
    "$python" -m zipfile -e "$wheel" "$unpacked"
    cp "$unpacked"/apr/_core*.so python/apr/
    rm -r "$unpacked/apr"
fi
exec "$python" -m benchmarks.gpu "$@"

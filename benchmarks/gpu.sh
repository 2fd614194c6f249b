#!/usr/bin/env bash
# What one GPU makes of APR, within --minutes (12): the tests that need one, supervised steps with and without torch.compile
# and what share of the GPU's products they reach, steps of reinforcement learning on the torch engine; and, with the time
# that is left, a model of the recipe `small` or another. Needs Python 3.11 or newer with torch, transformers, safetensors, rich, filelock
# and pytest, no network, and this repository with the extension: built in place, or as a wheel in dist/ (`uv build --wheel`).
#
#   bash benchmarks/gpu.sh [--cpu] [--recipe NAME|FILE] [--minutes N] [--out DIR]      --cpu: all of it at sizes of a minute, to try this script
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if ! compgen -G 'python/apr/_core*.so' >/dev/null; then
    wheel=$(ls -t dist/apr-*-abi3-*.whl 2>/dev/null | head -n 1)
    [ -n "$wheel" ] || { echo "no extension in python/apr and no wheel in dist/: uv build --wheel" >&2; exit 2; }
    "$python" -c 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); [z.extract(n, "python") for n in z.namelist() if "_core" in n and n.endswith(".so")]' "$wheel"
fi
"$python" -c 'import torch, transformers' 2>/dev/null || { echo "$python has no torch or no transformers; PYTHON=... names another" >&2; exit 2; }
export PYTHONPATH="$PWD/python${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$python" -m benchmarks.gpu "$@"

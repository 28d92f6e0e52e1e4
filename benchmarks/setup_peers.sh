#!/usr/bin/env bash
# Makes the environment of the libraries that benchmarks compare with, outside of the repository.
#
#   benchmarks/setup_peers.sh [FOLDER]      default: ~/.cache/denoise_jax_peers
#
# PYTHON names the interpreter (default: python3). Benchmarks find it there, or by --peer-python FOLDER/bin/python.
set -euo pipefail
folder="${1:-$HOME/.cache/denoise_jax_peers}"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --upgrade pip
"$folder/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy
"$folder/bin/python" -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
echo "peers installed; benchmarks take $folder/bin/python"

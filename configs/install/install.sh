#!/usr/bin/env bash
# Makes .venv and installs the project into it: configs/install/install.sh {cpu|cuda}.
set -euo pipefail
extra="${1:-cpu}"
python="${PYTHON:-python3.11}"
command -v "$python" >/dev/null || python=python3
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "setup: expected Python 3.11 to 3.13, found $("$python" --version 2>&1); set PYTHON=/path/to/python3.11" >&2
    exit 2
}
# Wheels of both kinds bear the same version: what is there of the other kind would stay, and be of no use.
built="$(.venv/bin/python -c 'import importlib.metadata as m; print("cpu" if "+cpu" in m.version("torch") else "cuda")' \
    2>/dev/null || true)"
if [ -n "$built" ] && [ "$built" != "$extra" ]; then
    echo "setup: .venv has the torch of EXTRA=$built: it is made anew for EXTRA=$extra"
    rm -rf .venv
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
# -qq: errors only; warnings about what some index ignores are not for the reader.
pip() { .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }
tested=()

if [ "$extra" = cpu ]; then
    tested=(--constraint configs/install/constraints.txt)
    # The CPU wheel of torch: from the configured sources if they have it, else from PyTorch's own index.
    pip install "${tested[@]}" "torch==2.13.0+cpu" 2>/dev/null ||
        pip install "${tested[@]}" "torch==2.13.0+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
fi
pip install "${tested[@]}" -e ".[$extra,iqa,dev]"
# For its support vectors alone (the score `brisque`); its code, which needs libsvm, is never imported.
pip install --no-deps "brisque==0.2.0"
# Sound libraries that come with vLLM: CUDA builds, never used here, and transformers imports them when present.
# bitsandbytes comes with pyiqa, which works without it; diffusers imports it when present, and it complains.
pip uninstall -y torchaudio torchcodec bitsandbytes >/dev/null 2>&1 || true
.venv/bin/python - "$extra" <<'END'
import sys, torch
if (sys.argv[1] == "cuda") != bool(torch.version.cuda):
    sys.exit(f"setup: expected the torch of EXTRA={sys.argv[1]}, got {torch.__version__} (CUDA {torch.version.cuda})")
END

"""The packages of the extra export, which write ONNX files and compute them."""

from __future__ import annotations

import importlib.util

from wandb_tl.errors import InputError

NAMES = ("onnx", "onnxscript", "onnxruntime")


def check() -> None:
    """InputError if one of them is not installed."""
    missing = [name for name in NAMES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--export onnx: needs {', '.join(missing)}; uv sync --extra export, or pip install "
            "'wandb-tl[export]', installs the packages"
        )

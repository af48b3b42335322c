"""Transfer-learning sweeps for Weights & Biases.

What a notebook imports. Each name is loaded when it is used, so that `import wandb_tl` loads no library.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb_tl.analysis.answer import Answer as Answer
    from wandb_tl.analysis.results import results as results
    from wandb_tl.errors import InputError as InputError
    from wandb_tl.fitting import FitResult as FitResult
    from wandb_tl.fitting import fit as fit
    from wandb_tl.predict import load_model as load_model
    from wandb_tl.serving import LocalServer as LocalServer
    from wandb_tl.serving import compare as compare
    from wandb_tl.serving import local_server as local_server

__version__ = "0.1.0"


def _is_command() -> bool:
    """Whether this process is one of the package's commands, and not another program that imports it."""
    script, words = sys.argv[0], sys.orig_argv
    if script != "-m":
        return script.removesuffix(".exe").endswith("wandb-tl")
    # Python's options may stand before the module, as -W with its value.
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return module.split(".")[0] == "wandb_tl"


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until the command has started, Ctrl-C ends it without the traceback of a half-imported module.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

if sys.platform == "darwin":
    # PyTorch reads it when it is loaded: the CPU computes what Apple's GPU does not offer, with a warning.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

# Where each name is.
_HOMES = {
    "fit": "wandb_tl.fitting",
    "FitResult": "wandb_tl.fitting",
    "results": "wandb_tl.analysis.results",
    "compare": "wandb_tl.serving",
    "Answer": "wandb_tl.analysis.answer",
    "load_model": "wandb_tl.predict",
    "local_server": "wandb_tl.serving",
    "LocalServer": "wandb_tl.serving",
    "InputError": "wandb_tl.errors",
}
__all__ = [
    "Answer",
    "FitResult",
    "InputError",
    "LocalServer",
    "compare",
    "fit",
    "load_model",
    "local_server",
    "results",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Before another library loads tqdm, which warns in a notebook without ipywidgets.
    importlib.import_module("wandb_tl.progress")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

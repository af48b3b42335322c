"""A Python whose system lacks what Windows lacks, for this package's code; libraries import what they need.

Python imports this module when it starts, if its folder is in PYTHONPATH.
"""

import builtins
import os
from typing import Any

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
FUNCTIONS = (
    "killpg",
    "posix_fallocate",
    "pread",
    "preadv",
    "pwrite",
    "pwritev",
    "sched_getaffinity",
    "setpgid",
)

_import = builtins.__import__


def _import_of_windows(name: str, globals: Any = None, *arguments: Any, **named: Any) -> Any:
    if name in MODULES and ((globals or {}).get("__name__") or "").startswith("wandb_tl"):
        raise ModuleNotFoundError(f"No module named {name!r}")
    return _import(name, globals, *arguments, **named)


builtins.__import__ = _import_of_windows
for function in FUNCTIONS:
    delattr(os, function)

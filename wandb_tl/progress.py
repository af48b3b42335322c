"""Progress bars: in a terminal and in a notebook, and none where stderr is a file."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm as tqdm
else:
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # Without ipywidgets it warns, and a notebook shows the bar as text.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm import auto

    class tqdm(auto.tqdm):
        """As `tqdm.auto.tqdm`, but not shown where stderr is neither a terminal nor a notebook's."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            # A notebook's stderr is not a terminal, which is what None asks for.
            options.setdefault("disable", False if "ipykernel.zmqshell" in sys.modules else None)
            super().__init__(*arguments, **options)

    # Its own lock also excludes other processes, by a semaphore that a killed process would leave behind.
    tqdm.set_lock(threading.RLock())

"""plotly.js, which draws the charts: the file of the installed package plotly, compressed once."""

from __future__ import annotations

import gzip
import importlib.util
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

# Its address changes with its version, so that browsers never ask for it again.
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}

# The package itself is not imported: only its file is needed.
SPEC = importlib.util.find_spec("plotly")
if SPEC is None or SPEC.origin is None:
    raise ModuleNotFoundError("No module named 'plotly'", name="plotly")
PATH = Path(SPEC.origin).parent / "package_data" / "plotly.min.js"


class PlotlyScript:
    """The script and its address."""

    def __init__(self) -> None:
        self.name = f"plotly-{version('plotly')}.min.js"

    @cached_property
    def compressed(self) -> bytes:
        """The script as gzip, a third of its size."""
        # The first chart waits for it, and level 9 takes twice as long for 4 % less.
        return gzip.compress(PATH.read_bytes(), compresslevel=4, mtime=0)

    def send(self, request: Request) -> Response:
        headers = FOREVER | {"Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers = self.compressed, headers | {"Content-Encoding": "gzip"}
        else:
            content = PATH.read_bytes()
        return Response(content, media_type="text/javascript", headers=headers)

"""The embedded server from Python: `wandb_tl.local_server`, for a notebook without an account."""

from __future__ import annotations

import html
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wandb_tl.errors import InputError
from wandb_tl.sweeping import embedded_server

if TYPE_CHECKING:
    from wandb_tl.analysis.answer import Answer
    from wandb_tl.training.tracking import Run


# The server that this process uses: the wandb client has one address.
_in_use: LocalServer | None = None


def local_server(root: str | os.PathLike[str] | None = None) -> LocalServer:
    """Start the embedded server of a folder, and point the wandb client of this process at it.

    root: the folder; $WANDB_TL_ROOT or ~/.local/share/wandb_tl by default. As a context manager, it undoes
    this at the end of the block. Otherwise the server runs until `close()`, or until this process ends. If
    this process uses the embedded server already, that is what it returns.

    InputError if a run is open, if this process uses the server of another folder, or if the server cannot
    start.
    """
    global _in_use
    if _in_use is not None and _in_use.is_open():
        if root is not None and Path(root).expanduser().resolve() != Path(_in_use.root):
            raise InputError(
                f"this process uses {_in_use}: close it first with wandb_tl.local_server().close()"
            )
        return _in_use
    if _in_use is not None:
        _in_use.close()
    _in_use = LocalServer(root)
    return _in_use


def compare(path: str) -> Answer:
    """What the runs at ENTITY/PROJECT/SWEEP or ENTITY/PROJECT say; a notebook shows it as a page.

    Its commands have --local if wandb is pointed at the embedded server. InputError if there is no such sweep
    or project, or if none of its runs has a test accuracy.
    """
    from wandb_tl.analysis import compare

    return compare.compare(path, embedded_server.flags_in_use() or ())


@dataclass(frozen=True)
class Link:
    """The address of a page, which logs a browser in; in a notebook it is shown as a link.

    The address logs in once, within ten minutes. It does not contain the server's API key.
    """

    address: str
    text: str

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return self.address

    def _repr_html_(self) -> str:
        return f'<a href="{html.escape(self.address)}" target="_blank">{html.escape(self.text)}</a>'


class LocalServer:
    """The embedded server that the wandb client of this process uses until `close`.

    url: where the client reaches it. root: the folder with its data.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        if (run := _open_run()) is not None:
            raise InputError(f"the run {run.id} is open: end it first with wandb.finish()")
        self._server = embedded_server.SharedServer(None if root is None else str(Path(root).expanduser()))
        variables = self._server.environment
        self.url, self.root = variables["WANDB_BASE_URL"], variables["WANDB_TL_ROOT"]
        self._restored = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        _read_environment_again()

    def link(self, path: str = "") -> Link:
        """A link to a page that logs the browser in.

        path: ENTITY/PROJECT[/SWEEP or RUN_ID], or an address that wandb printed; all projects by default.
        Below the address of JupyterHub if the notebook runs there, which needs jupyter-server-proxy.
        InputError if the server has ended.
        """
        address = embedded_server.page_link(path, self.root)
        prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
        if prefix:
            parts = urlsplit(address)
            address = f"{prefix.rstrip('/')}/proxy/{parts.port}{parts.path}?{parts.query}"
        return Link(address, urlsplit(path).path.strip("/") or "Pages of the embedded server")

    def is_open(self) -> bool:
        """Whether this process uses the server, and the server answers."""
        return bool(self._restored) and self._server.answers()

    def close(self) -> None:
        """Finish the open run, and point wandb to where it pointed before.

        The server ends, unless another process has started it or uses it. The runs stay in its folder.
        """
        if not self._restored:
            return
        try:
            if (run := _open_run()) is not None:
                run.finish()
        finally:
            for name, value in self._restored.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            self._restored = {}
            _read_environment_again()
            self._server.close()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalServer({self.url}, {self.root})"

    def _repr_html_(self) -> str:
        if not self._restored:
            return "<p>The embedded server is closed.</p>"
        return f"<p>{self.link()._repr_html_()} · {html.escape(self.root)}</p>"


def _open_run() -> Run | None:
    if "wandb" not in sys.modules:
        return None
    from wandb_tl.training import run_lifecycle

    return run_lifecycle.open_run()


def _read_environment_again() -> None:
    """Make a wandb client that was used before read its address and key from the environment again."""
    if "wandb" in sys.modules:
        from wandb_tl.training import run_lifecycle

        run_lifecycle.forget_environment()

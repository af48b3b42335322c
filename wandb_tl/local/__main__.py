"""python -m wandb_tl.local: serve the embedded W&B-compatible backend, or say how to reach it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from wandb_tl.local import root as roots
from wandb_tl.local.errors import RootError, RootServedError

DESCRIPTION = """\
A W&B-compatible backend for one machine or one cluster: no account, no cloud. The unmodified wandb client
logs to it, `wandb sweep` and `wandb agent` run against it, and wandb.Api() reads from it.

  python -m wandb_tl.local serve &
  eval "$(python -m wandb_tl.local env)"
  wandb sweep sweep.yaml"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are one line each."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        "python -m wandb_tl.local",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{serve,open,env,push}")
    serve = commands.add_parser(
        "serve",
        help="serve a folder until Ctrl-C or SIGTERM",
        epilog="Exit code 3: another server serves the folder.",
    )
    open_ = commands.add_parser(
        "open",
        help="open a page in the browser, logged in; serves the folder until Ctrl-C where nothing does yet",
    )
    open_.add_argument(
        "page",
        nargs="?",
        default="",
        help="a link that wandb printed, or ENTITY/PROJECT[/RUN or SWEEP] (default: all projects)",
    )
    open_.add_argument("--print", action="store_true", help="only print the link; no server is started")
    env = commands.add_parser("env", help="print the shell exports that point wandb at the server")
    for command in (serve, open_, env):
        command.add_argument(
            "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
        )
    push = commands.add_parser(
        "push",
        help="take a finished sweep to another W&B server",
        epilog="The key for that server is the one of `wandb login --host URL`, or $WANDB_PUSH_API_KEY. "
        "A push that was interrupted goes on when it is started again.",
    )
    push.add_argument("sweep", metavar="ENTITY/PROJECT/SWEEP")
    push.add_argument("--to", required=True, metavar="URL", help="its address, as https://api.wandb.ai")
    push.add_argument(
        "--as",
        dest="into",
        metavar="ENTITY/PROJECT",
        help="where to put it there (default: the same project of the key's default entity)",
    )
    for command in (serve, open_, env, push):
        command.add_argument(
            "--root",
            type=Path,
            default=roots.default_root(),
            help="folder of the records, files and API key (default: $WANDB_TL_ROOT or %(default)s)",
        )
    for command in (serve, open_):
        command.add_argument(
            "--port", type=int, default=8080, help="0 takes a free one (default: %(default)s)"
        )
    env.add_argument("--port", type=int, help="default: that of the server that serves the folder")
    for command in (serve, open_, env):
        command.add_argument(
            "--json", action="store_true", help='print a JSON object; {"error": …, "served": …} if it fails'
        )
    return parser.parse_args(arguments)


def environment(root: Path, host: str, port: int | None) -> dict[str, str]:
    """The variables that point the wandb client at the server of `root`.

    Proxies are kept off the way; history is sent every second, so that a killed script loses little of it.
    """
    # Without a port there must be a server already: a mistyped folder is not made.
    url = roots.address(host, port) if port is not None else roots.wait_for_server(root)
    key = roots.read_key(roots.prepare(root))
    direct = [url.partition("://")[2].rpartition(":")[0].strip("[]"), "127.0.0.1", "localhost"]
    for name in ("NO_PROXY", "no_proxy"):
        direct += [part for part in os.environ.get(name, "").split(",") if part]
    no_proxy = ",".join(dict.fromkeys(direct))
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": key,
        "WANDB_TL_ROOT": str(root.resolve()),
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
        "WANDB_ERROR_REPORTING": "false",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def server() -> ModuleType:
    """The module that serves, whose libraries the extra `local` brings. RootError without it."""
    try:
        from wandb_tl.local import server
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("wandb_tl"):
            raise
        raise RootError(f"{error.name} is missing: install this package with its extra 'local'") from None
    return server


def announcement(root: Path, as_json: bool) -> Callable[[str], None]:
    """Prints that a root is served, and how to use it."""

    def announce(url: str) -> None:
        if as_json:
            print(json.dumps({"url": url}), flush=True)
            return
        where = f"--root {shlex.quote(str(root.resolve()))}"
        python = f"{shlex.quote(sys.executable)} -m wandb_tl.local"
        print(f'serving {root.resolve()} at {url}; to point wandb at it: eval "$({python} env {where})"')
        print(f"its pages, logged in: {python} open {where}", flush=True)

    return announce


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        if options.command == "serve":
            server().serve(options.root, options.host, options.port, announcement(options.root, options.json))
        elif options.command == "open":
            server().open_page(
                options.root, options.host, options.port, options.page, options.print, options.json
            )
        elif options.command == "push":
            from wandb_tl.local.push.sweep_push import push

            return push(options)
        else:
            variables = environment(options.root, options.host, options.port)
            if options.json:
                print(json.dumps(variables))
            else:
                print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
    except RootError as error:
        served = isinstance(error, RootServedError)
        if getattr(options, "json", False):
            print(json.dumps({"error": str(error), "served": served}))
        else:
            print(f"error: {error}", file=sys.stderr)
        return 3 if served else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

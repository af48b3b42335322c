"""python -m wandb_tl.local: the commands of the embedded W&B-compatible server."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from wandb_tl.local import addresses
from wandb_tl.local import root as roots
from wandb_tl.local.addresses import USUAL_PORT
from wandb_tl.local.errors import ExitCode, RootError, RootServedError

DESCRIPTION = """\
A W&B-compatible server for one machine or one cluster, without an account or a cloud. The unmodified wandb
client logs to it, `wandb sweep` and `wandb agent` use it, and wandb.Api() reads from it.

  python -m wandb_tl.local serve &
  eval "$(python -m wandb_tl.local env)"
  wandb sweep sweep.yaml"""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a usage error in one line with a pointer to --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.USAGE, f"error: {message}; see {self.prog} --help\n")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        "python -m wandb_tl.local",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve a folder until Ctrl-C or SIGTERM",
        epilog="Exit code 3: another server serves the folder.",
    )
    serve.add_argument(
        "--while-used",
        action="store_true",
        help="end when no process has locked the file users in the folder",
    )
    open_ = commands.add_parser(
        "open",
        help="open a page in the browser, logged in; serve the folder until Ctrl-C if no server does",
    )
    env = commands.add_parser("env", help="print the shell exports that point wandb at the server")
    answer = commands.add_parser(
        "answer",
        help="store a sweep's answer, read as JSON from stdin, for its page; export_table does this",
        description="Store the answer of a sweep, which its page then shows: which recipe is best, and how "
        "sure that is. The answer is JSON, read from stdin or a file. export_table uses this command, and "
        "prints the answer itself.",
        epilog="The file is a JSON object: sentences, commands (label, line), tables (title, columns, rows, "
        "caption), runs (how many it was computed from), finished (how many runs of the sweep had finished).",
    )
    push = commands.add_parser(
        "push",
        help="copy a finished sweep to another W&B server",
        epilog="The API key for that server is the one of `wandb login --host URL`, or $WANDB_PUSH_API_KEY. "
        "To resume an interrupted push, start it again.",
    )
    check = commands.add_parser(
        "check",
        help="check a folder: the database, the bytes of all files, runs that do not end",
        epilog="Exit code 3: with --repair, and a server serves the folder.",
    )
    check.add_argument(
        "--repair", action="store_true", help="repair what can be repaired; damaged files go to ROOT/damaged"
    )
    backup = commands.add_parser("backup", help="copy a folder, which may be served, to a new one")
    backup.add_argument("folder", type=Path, metavar="DIR", help="a folder that does not exist, or is empty")
    restore = commands.add_parser("restore", help="copy a backup to a folder that is new or empty")
    restore.add_argument("folder", type=Path, metavar="DIR", help="what backup has written")
    pull = commands.add_parser(
        "pull",
        help="copy a project or a sweep of another W&B server to the server of a folder",
        epilog="The API key for that server is the one of `wandb login --host URL`, or $WANDB_PUSH_API_KEY. "
        "Runs that have not ended are left out. To resume an interrupted pull, start it again.",
    )
    pull.add_argument("path", metavar="ENTITY/PROJECT[/SWEEP]")
    pull.add_argument(
        "--from", dest="source", required=True, metavar="URL", help="address of the other server"
    )
    pull.add_argument(
        "--as", dest="into", metavar="ENTITY/PROJECT", help="destination here (default: local/PROJECT)"
    )
    _add_page(open_)
    _add_destination(push)
    answer.add_argument("sweep", metavar="ENTITY/PROJECT/SWEEP")
    answer.add_argument("file", nargs="?", default="-", metavar="FILE", help="default: stdin")
    for command in (serve, open_):
        _add_listening(command)
    for command in (serve, open_, env, answer):
        command.add_argument(
            "--json", action="store_true", help='print a JSON object, {"error": …, "served": …} on failure'
        )
    serve.add_argument(
        "--port", type=int, default=USUAL_PORT, help="0 selects a free port (default: %(default)s)"
    )
    open_.add_argument(
        "--port", type=int, help=f"port of a new server (default: {USUAL_PORT} if it is free, or a free port)"
    )
    env.add_argument(
        "--host",
        help="name or address by which other hosts reach this machine; 0.0.0.0 selects an address of its "
        "networks (default: that of the server, for this machine)",
    )
    env.add_argument(
        "--port",
        type=int,
        help="port of a tunnel to the server, or of one that is yet to start, without HTTPS (default: the "
        "port of the server that serves the folder)",
    )
    for command in (serve, open_, env, answer, push, pull, check, backup, restore):
        command.add_argument(
            "--root",
            type=Path,
            default=roots.default_root(),
            help="folder with the records, files and API key (default: $WANDB_TL_ROOT or %(default)s)",
        )
    return parser.parse_args(arguments)


def _add_listening(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s); one that other hosts reach needs --insecure or "
        "--ssl-certfile",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="listen without encryption: who sees the traffic sees the key. For networks that you trust",
    )
    parser.add_argument("--ssl-certfile", type=Path, metavar="FILE", help="certificate: listen with HTTPS")
    parser.add_argument(
        "--ssl-keyfile", type=Path, metavar="FILE", help="its private key, if it is in a file of its own"
    )


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "page",
        nargs="?",
        default="",
        help="a link that wandb printed, or ENTITY/PROJECT[/RUN or SWEEP] (default: all projects)",
    )
    parser.add_argument("--print", action="store_true", help="only print the link; do not start a server")


def _add_destination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="ENTITY/PROJECT/SWEEP")
    parser.add_argument(
        "--to", required=True, metavar="URL", help="address of the other server, such as https://api.wandb.ai"
    )
    parser.add_argument(
        "--as",
        dest="into",
        metavar="ENTITY/PROJECT",
        help="destination there (default: the same project name, under the default entity of the API key)",
    )


def server_url(root: Path, host: str | None, port: int | None) -> str:
    """The address of the server of `root`; for other hosts if `host` names this machine.

    port: may also be that of a tunnel to it, or of a server that is yet to start, which has no HTTPS.
    Raises RootError if there is no server, or if it listens on this machine only.
    """
    if host in addresses.ALL_ADDRESSES:
        networks = addresses.in_networks()
        if not networks:
            raise RootError("this machine has no address in a network; name it with --host")
        host = networks[0]
    # Without a port, a server must already be running, so that a mistyped folder is not created.
    url = roots.wait_for_server(root) if port is None else roots.server_url(root)
    scheme, _, rest = (url or "http://").partition("://")
    served_port = int(rest.rpartition(":")[2] or 0)
    if url is None or port not in (None, served_port):
        return addresses.url(host or "127.0.0.1", port or 0, scheme)
    if host is None:
        return url
    if addresses.is_loopback(roots.server_host(root)) and not addresses.is_loopback(host):
        raise RootError(f"the server at {url} listens on this machine only; start it with --host 0.0.0.0")
    return addresses.url(host, served_port, scheme)


def environment(root: Path, host: str | None, port: int | None) -> dict[str, str]:
    """The variables that point the wandb client at the server of `root`.

    Requests bypass proxies. History is sent every second, so that a killed script loses little of it.
    """
    url = server_url(root, host, port)
    key = roots.read_key(root)
    is_here = host is None or addresses.is_loopback(host)
    hosts = [url.partition("://")[2].rpartition(":")[0].strip("[]"), "127.0.0.1", "localhost"]
    for name in ("NO_PROXY", "no_proxy"):
        hosts += [part for part in os.environ.get(name, "").split(",") if part]
    no_proxy = ",".join(dict.fromkeys(hosts))
    return {
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": key,
        # Other hosts do not have that folder.
        **({"WANDB_TL_ROOT": str(root.resolve())} if is_here else {}),
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
        "WANDB_ERROR_REPORTING": "false",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def server() -> ModuleType:
    """The module `server`. Raises RootError if the libraries of the extra `local` are not installed."""
    try:
        from wandb_tl.local import server
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("wandb_tl"):
            raise
        raise RootError(f"{error.name} is missing: install this package with its extra 'local'") from None
    return server


def announcement(root: Path, host: str, as_json: bool) -> Callable[[str], None]:
    """A function that prints the server's address and how to use it. host: what it listens on."""

    def announce(url: str) -> None:
        if as_json:
            try:
                print(json.dumps({"url": url}), flush=True)
            except BrokenPipeError:
                # Who has started this server was killed meanwhile. Others may use it by now.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        where = f"--root {shlex.quote(str(root.resolve()))}"
        python = f"{shlex.quote(sys.executable)} -m wandb_tl.local"
        print(f'serving {root.resolve()} at {url}; to point wandb at it: eval "$({python} env {where})"')
        print(f"to open its pages, logged in: {python} open {where}", flush=True)
        networks = addresses.in_networks() if host in addresses.ALL_ADDRESSES else []
        if networks and url.startswith("https:"):
            # A certificate is for a name.
            networks = [url.partition("://")[2].rpartition(":")[0]]
        if networks:
            print(f"other hosts reach it at {' or '.join(networks)}; to write their variables into a file:")
            print(f"(umask 077; {python} env {where} --host {networks[0]} > wandb.env)", flush=True)

    return announce


def security(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """The files of the certificate and of its key. Raises RootError if the certificate is missing.

    The file of a certificate may also have its key.
    """
    if options.ssl_keyfile and not options.ssl_certfile:
        raise RootError("--ssl-keyfile: without --ssl-certfile, the server would listen without encryption")
    files = (options.ssl_certfile, options.ssl_keyfile)
    if not (addresses.is_loopback(options.host) or options.ssl_certfile or options.insecure):
        raise RootError(
            f"a server on {options.host} sends its key and all else unencrypted: add --insecure in a network "
            "that you trust, or --ssl-certfile and --ssl-keyfile"
        )
    return files


def print_environment(options: argparse.Namespace) -> None:
    variables = environment(options.root, options.host, options.port)
    if options.json:
        print(json.dumps(variables))
    else:
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))


def send_answer(options: argparse.Namespace) -> None:
    from wandb_tl.local import answer

    answer.send(options.root, options.sweep, options.file)
    print(json.dumps({"sweep": options.sweep}) if options.json else f"{options.sweep} has its answer")


def keep(options: argparse.Namespace) -> ExitCode:
    """Run check, backup or restore. Raises RootError."""
    if options.command == "check":
        from wandb_tl.local.upkeep.check import check

        return check(options.root, options.repair)
    from wandb_tl.local.upkeep.backup import backup, restore

    if options.command == "backup":
        backup(options.root, options.folder)
        print(f"{options.folder} has a copy of {options.root}")
    else:
        restore(options.folder, options.root)
        print(f"{options.root} has a copy of {options.folder}")
    return ExitCode.OK


def main(arguments: list[str] | None = None) -> ExitCode:
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        # Ctrl-C ended this process until now, so that it prints no traceback; see wandb_tl/__init__.py.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run(parse_arguments(arguments))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def run(options: argparse.Namespace) -> ExitCode:
    """Run the command of the parsed options."""
    if options.command == "push":
        from wandb_tl.local.push.sweep_push import push

        return push(options)
    if options.command == "pull":
        from wandb_tl.local.push.pull import pull

        return pull(options)
    try:
        if options.command == "serve":
            announce = announcement(options.root, options.host, options.json)
            listening = server().Listening(options.host, options.port, *security(options))
            server().serve(options.root, listening, announce, options.while_used)
        elif options.command == "open":
            listening = server().Listening(options.host, options.port, *security(options))
            server().open_page(options.root, listening, options.page, options.print, options.json)
        elif options.command == "answer":
            send_answer(options)
        elif options.command in ("check", "backup", "restore"):
            return keep(options)
        else:
            print_environment(options)
    except RootError as error:
        served = isinstance(error, RootServedError)
        if getattr(options, "json", False):
            print(json.dumps({"error": str(error), "served": served}))
        else:
            print(f"error: {error}", file=sys.stderr)
        return ExitCode.SERVED if served else ExitCode.FAILED
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

"""Which user of this machine has opened a connection, as the kernel says it."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ESTABLISHED = "01"
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def owner(scope: MutableMapping[str, Any]) -> str:
    """The number of the user whose process has sent a request, by its ASGI scope.

    "" for another machine, and where the kernel has no such table. Of a proxy or a forwarded port it is the
    user of that process.
    """
    here, there = scope.get("client"), scope.get("server")
    if not here or not there or there[1] is None:
        return ""
    # A program that asks for IPv6 is listed with the IPv6 form of the address.
    for table, as_listed in zip(TABLES, (listed, listed_in_six), strict=True):
        with suppress(OSError, ValueError), table.open() as lines:
            wanted = [f"{as_listed(host)}:{port:04X}" for host, port in (here, there)]
            for line in lines:
                fields = line.split()
                if fields[1:4] == [*wanted, ESTABLISHED]:
                    return fields[7]
    return ""


def listed(host: str) -> str:
    """An IPv4 address as /proc/net/tcp lists it. Raises OSError for another one."""
    return _words(socket.inet_pton(socket.AF_INET, host))


def listed_in_six(host: str) -> str:
    """An address as /proc/net/tcp6 lists it. Raises ValueError for what is not an address."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        address = ipaddress.IPv6Address(f"::ffff:{host}")
    return _words(address.packed)


def _words(packed: bytes) -> str:
    """The words of an address in hexadecimal, each in the order of bytes of this machine."""
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)

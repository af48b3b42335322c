"""The addresses of a server: for this machine, and for other hosts if it listens on all its addresses."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from functools import lru_cache

import psutil

# Hosts to listen on that stand for all addresses, and how this machine then reaches the server.
ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
# The port that a server listens on, unless it is told another one.
USUAL_PORT = 8080
# An address that no host has, beyond any router. Nothing is sent to it.
ELSEWHERE = ("192.0.2.1", 9)


def url(host: str, port: int, scheme: str = "http") -> str:
    """The URL at which this machine reaches a server that listens on host.

    With the scheme https by the machine's name, which certificates are issued for.
    """
    if host in ALL_ADDRESSES:
        host = socket.gethostname() if scheme == "https" else ALL_ADDRESSES[host]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on host."""
    with suppress(ValueError):
        return host not in ALL_ADDRESSES and ipaddress.ip_address(host).is_loopback
    return host == "localhost"


@lru_cache
def leads_here(host: str) -> bool:
    """Whether a connection to a host, by any spelling of its name, may end on this machine or on its cable.

    Link-local addresses count: clouds give the keys of a machine there to whoever asks from it.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # Where all connections go through a proxy, names may be known to that alone.
        return is_loopback(host)
    return any(_is_here(str(address[0])) for *_, address in found)


def _is_here(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified or address.is_link_local


def in_networks() -> list[str]:
    """The IPv4 addresses of this machine in its networks, first the one with which it reaches others."""
    up = {name for name, interface in psutil.net_if_stats().items() if interface.isup}
    addresses = [
        address.address
        for name, entries in psutil.net_if_addrs().items()
        for address in entries
        if name in up and address.family == socket.AF_INET and not is_loopback(address.address)
    ]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Without a router this fails, and the order stays that of the interfaces.
        probe.connect(ELSEWHERE)
        addresses.insert(0, probe.getsockname()[0])
    return list(dict.fromkeys(addresses))

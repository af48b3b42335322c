"""Signed addresses of blobs: each allows one method on one blob, as the client sends no key there."""

from __future__ import annotations

import hashlib
import hmac


class AddressSigner:
    """Makes and checks the addresses of a server's blobs. key: the server's API key."""

    def __init__(self, key: str) -> None:
        self._secret = hmac.digest(key.encode(), b"blob addresses", "sha256")

    def url(self, base_url: str, method: str, blob_id: str) -> str:
        """The absolute, signed address; wandb-core does not accept a relative one."""
        return f"{base_url}/blobs/{blob_id}?signature={self._signature(method, blob_id)}"

    def allows(self, method: str, blob_id: str, signature: str) -> bool:
        """Whether the signature is that of the method and the blob. An address to GET allows HEAD too."""
        method = "GET" if method == "HEAD" else method
        return hmac.compare_digest(self._signature(method, blob_id).encode(), signature.encode())

    def _signature(self, method: str, blob_id: str) -> str:
        return hmac.new(self._secret, f"{method} {blob_id}".encode(), hashlib.sha256).hexdigest()

"""Signed addresses of blobs, as the client sends no key there.

Each allows one method on one blob for a day. One to upload is for one upload, see `blob.sent_at`.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import urlencode

# A client that uploads thousands of files asks for their addresses long before it has sent the last.
VALID_SECONDS = 24 * 3600
# Addresses to download are the same for an hour, so that pages are, and browsers keep what they have loaded.
SAME_SECONDS = 3600


class AddressSigner:
    """Makes and checks the addresses of a server's blobs. key: the server's API key."""

    def __init__(self, key: str) -> None:
        self._secret = hmac.digest(key.encode(), b"blob addresses", "sha256")

    def url(self, base_url: str, method: str, blob_id: str, now: float | None = None) -> str:
        """The absolute, signed address; wandb-core does not accept a relative one."""
        now = time.time() if now is None else now
        signed_at = f"{now if method == 'PUT' else now // SAME_SECONDS * SAME_SECONDS:.6f}"
        query = urlencode({"at": signed_at, "signature": self._signature(method, blob_id, signed_at)})
        return f"{base_url}/blobs/{blob_id}?{query}"

    def signed_at(self, method: str, blob_id: str, query: Mapping[str, str]) -> float | None:
        """When the address with this query was signed for the method; None if it was not, or too long ago.

        An address to GET allows HEAD too.
        """
        at, method = query.get("at", ""), "GET" if method == "HEAD" else method
        expected = self._signature(method, blob_id, at)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode()):
            return None
        lasts = VALID_SECONDS + (SAME_SECONDS if method == "GET" else 0)
        return float(at) if time.time() < float(at) + lasts else None

    def _signature(self, method: str, blob_id: str, at: str) -> str:
        return hmac.new(self._secret, f"{method} {blob_id} {at}".encode(), hashlib.sha256).hexdigest()

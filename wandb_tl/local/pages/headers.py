"""The headers of pages and files: what a browser may load for them, and who may embed them."""

from __future__ import annotations

# No content from other servers, and no scripts but this server's own files. Charts set styles on elements.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " media-src 'self'; frame-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
# HTML that a run logged has an origin of its own, and loads nothing but what it holds itself: a picture on
# another host would tell that host who looks at the file, and when.
_CONTAINED = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:;"
    " font-src data:"
)
# On a page of its run it may run its own scripts, at the address of a file it may not.
FRAME_POLICY = (
    f"sandbox allow-scripts; {_CONTAINED}; script-src 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'"
)
FILE_POLICY = f"sandbox; {_CONTAINED}; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # Pages of other origins get neither a window that they open, nor a part of a page.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The browser asks again each time, and gets a 304 if nothing has changed.
    "Cache-Control": "no-cache",
}

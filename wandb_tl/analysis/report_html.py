"""The page of a report as one HTML file, which a browser opens beside its figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

# The HTML that reports have in their Markdown; anything else is shown as text.
ALLOWED = re.compile(
    r"</?details>|<summary>[^<>]*</summary>|</?p>|<p align=\"center\">"
    r"|<img src=\"figures/[\w./-]+\" alt=\"[^\"<>]*\" width=\"\d+%\">|\s+"
)

# Without scripts, and with nothing from other hosts: names in a report come from its runs.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src file: 'self'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }}
body {{ overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: .92em; }}
th, td {{ border: 1px solid #8886; padding: .25rem .6rem; overflow-wrap: normal; }}
pre {{ overflow-x: auto; padding: .6rem .8rem; background: #8882; border-radius: 6px; }}
code {{ font-size: .9em; }}
img {{ max-width: 100%; background: #fff; }}
summary {{ cursor: pointer; }}
</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""


def page(markdown: str) -> bytes:
    """The page of a README.md; its title is the first heading."""
    title = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    words = title[1].replace("`", "") if title else "Report"
    return PAGE.format(title=escape(words), body=_MARKDOWN.render(markdown)).encode()


def _html(
    _self: RendererProtocol, tokens: Sequence[Token], place: int, _options: OptionsDict, _env: EnvType
) -> str:
    text = tokens[place].content
    return text if not ALLOWED.sub("", text) else escape(text)


_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
_MARKDOWN.add_render_rule("html_block", _html)
_MARKDOWN.add_render_rule("html_inline", _html)

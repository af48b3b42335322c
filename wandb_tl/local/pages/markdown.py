"""Markdown, as reports have it, as HTML. Nothing in it is loaded, and HTML in it is shown as text."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

# Headings of a text are below those of its page.
LOWER = 1
WEB = ("http://", "https://", "mailto:")


def render(text: str) -> Markup:
    """CommonMark with tables. Images become links: the pages load nothing from other hosts."""
    return Markup(_MARKDOWN.render(text))


def web_address(url: object) -> str:
    """The address if it leads to the web, otherwise an empty string: others may run scripts."""
    return url if isinstance(url, str) and url.lower().startswith(WEB) else ""


def _image(
    _self: RendererProtocol, tokens: Sequence[Token], place: int, _options: OptionsDict, _env: EnvType
) -> str:
    url = str(tokens[place].attrs.get("src", ""))
    words = tokens[place].content or url
    return str(Markup('<a href="{}">image: {}</a>').format(url, words) if web_address(url) else escape(words))


def _lower_headings(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + LOWER, 6)}"


_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_MARKDOWN.add_render_rule("image", _image)
_MARKDOWN.core.ruler.push("lower_headings", _lower_headings)

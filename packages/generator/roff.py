"""Manual pages' markup: man(7), with nothing in a page that its text did not mean as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable


def text(words: str) -> str:
    """Plain text; lines of it begin no request."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    escaped = escaped.replace("^", "\\(ha").replace("~", "\\(ti").replace("`", "\\(ga")
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in escaped.split("\n"))


def bold(words: str) -> str:
    return f"\\fB{text(words)}\\fR"


def italic(words: str) -> str:
    return f"\\fI{text(words)}\\fR"


def head(name: str, section: int, date: str, source: str, manual: str) -> str:
    """The page's title; neither hyphens nor spaces are put into what is to be typed."""
    return f'.TH {name.upper()} {section} "{date}" "{text(source)}" "{manual}"\n.nh\n.ad l'


def section(name: str) -> str:
    return f".SH {name}"


def subsection(name: str) -> str:
    return f".SS {text(name)}"


def tagged(tag: str, body: str) -> str:
    """A paragraph with ``tag``, which is marked up already, hanging before it."""
    return f".TP\n{tag}\n{text(body) or '.br'}"


def paragraphs(words: str) -> Iterable[str]:
    """Text whose paragraphs are separated by empty lines."""
    for part in words.split("\n\n"):
        yield f".PP\n{text(' '.join(part.split()))}"


def page(parts: Iterable[str]) -> str:
    """The whole; a heading begins a paragraph by itself."""
    return re.sub(r"(?m)^(\.S[HS] .*)\n\.PP$", r"\1", "\n".join(parts)) + "\n"

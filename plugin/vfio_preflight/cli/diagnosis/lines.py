"""The lines of a configuration, as configparser takes them, and the ``sed`` that changes some."""

from __future__ import annotations

import re
from collections.abc import Iterator


def placed(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    """Number, section and key of every line that is no comment; of a header the key is empty."""
    section, key, indent = "", "", 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        # Behind what is nothing to the parser no value goes on.
        if not text or text[0] in "#;":
            key = ""
            continue
        depth = len(line) - len(line.lstrip())
        if header := re.match(r"\[(.+)\]", text):
            section, key = header[1], ""
        elif depth <= indent or not key:
            key, indent = text.partition("=")[0].strip().lower(), depth
        yield number, section, key


def setting(text: str, section: str, key: str, value: str) -> list[str]:
    """What ``sed`` does to have ``key`` set to ``value``, a script for each of its ``-e``.

    Whatever lines its value had go, and the new one comes right below the section's header, which
    is made where there is none. ``value`` has no backslash. Empty for text without a line.
    """
    lines = [*placed(text.split("\n"))]
    dropped = [f"{number}d" for number, place, name in lines if (place, name) == (section, key)]
    headers = [number for number, place, name in lines if place == section and not name]
    line = f"{key} = {value}"
    if headers:
        return [*dropped, f"{headers[0]}a {line}"]
    # An end without a line's end gets one.
    return [f"$a [{section}]", f"$a {line}"] if text else []


def edited(text: str, section: str, key: str, value: str) -> str:
    """``text`` as those scripts leave it."""
    scripts = setting(text, section, key, value)
    lines = text.removesuffix("\n").split("\n") if text else []
    made, ended = [], []
    for number, line in enumerate(lines, 1):
        if f"{number}d" not in scripts:
            made.append(line)
        made += [
            script.partition("a ")[2] for script in scripts if script.startswith(f"{number}a ")
        ]
    ended = [script[3:] for script in scripts if script.startswith("$a ")]
    if not text:
        ended = [f"[{section}]", f"{key} = {value}"]
    return "\n".join([*made, *ended, ""])

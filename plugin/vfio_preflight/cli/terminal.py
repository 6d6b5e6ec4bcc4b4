"""Standard output and error of every command: nothing foreign reaches a terminal as it is.

A guest's name, a line of QEMU's log or a file's name may hold what a terminal obeys (osutil.text).
Rather than in every place that prints, it is replaced where everything passes. Only what a command
colours itself goes by, after it was made printable in there: :func:`unfiltered`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..osutil.light import TYPE_CHECKING
from ..osutil.text import printable

if TYPE_CHECKING:
    from typing import Any, TextIO


class _Filter(io.TextIOBase):
    """A text stream that passes on what is printable, and the ends of lines."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write("\n".join(map(printable, text.split("\n"))))
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    # What io.TextIOBase answers by itself would not be about the stream.
    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401 - whatever it is
        if name in ("encoding", "errors", "buffer"):
            return getattr(self.stream, name)
        return super().__getattribute__(name)


@contextmanager
def filtered() -> Iterator[None]:
    """Have what is printed in here pass through the filter."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        # By its number what the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # None for one that is closed, to which print() prints nothing.
    sys.stdout, sys.stderr = (stream and _Filter(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def unfiltered() -> TextIO:
    """Standard output, for text with colours of our own, in which all else is printable."""
    return sys.stdout.stream if isinstance(sys.stdout, _Filter) else sys.stdout

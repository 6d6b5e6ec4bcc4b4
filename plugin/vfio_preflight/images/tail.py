"""Reading the last part of a file backwards, in few reads and without reading much twice."""

from __future__ import annotations

from typing import Protocol

from ..errors import PreflightError

CHUNK = 8 << 10


class StreamError(PreflightError):
    """Bytes that are not a complete QEMU migration stream, or that cannot be read."""


class Readable(Protocol):
    """What of a binary file is used."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def read(self, size: int, /) -> bytes | None: ...


class Tail:
    """The bytes from ``start`` to ``end`` of ``file``; offsets are the file's.

    ``origin`` names the file in errors. Every method raises StreamError where the file gives fewer
    bytes than it said it had.
    """

    def __init__(self, file: Readable, origin: str, start: int = 0, end: int | None = None) -> None:
        self._file = file
        self.origin = origin
        self.start = start
        self.end = self._size() if end is None else end
        if self.end < start:
            raise self.error("it ends before its migration stream begins")
        self._window = b""
        self._at = self.end

    def error(self, problem: str) -> StreamError:
        """An error that names the file."""
        return StreamError(f"{self.origin}: {problem}")

    def read(self, begin: int, end: int) -> bytes:
        """The bytes from ``begin`` to ``end``, or as many of them as there are."""
        # Clamped: a size in a description may point before the stream's beginning.
        begin, end = max(begin, self.start), min(end, self.end)
        if begin >= end:
            return b""
        if not self._at <= begin or end > self._at + len(self._window):
            # At least a chunk, ending where the request ends: the next one is usually just below
            # it.
            self._at = max(self.start, min(begin, end - CHUNK))
            self._window = self._fetch(self._at, end)
        return self._window[begin - self._at : end - self._at]

    def find_nul(self, end: int, limit: int) -> int | None:
        """Where the last NUL before ``end`` is; None if there is none in ``limit`` bytes."""
        lowest = max(self.start, end - limit)
        # One read covers the description of a small guest, about 50 KB, and the footers before it.
        self.read(max(lowest, end - 8 * CHUNK), end)
        while True:
            found = self._window.rfind(b"\0", 0, end - self._at)
            # -1 only where the search has reached its limit.
            if found >= 0 or self._at <= lowest:
                break
            # Twice as much each time, so that copying the window costs no more than reading it.
            below = max(lowest, self._at - len(self._window))
            self._window = self._fetch(below, self._at) + self._window
            self._at = below
        return self._at + found if found >= 0 else None

    def without_zeros(self, limit: int) -> int | None:
        """Where the bytes end if zeros behind them do not count; None if these exceed ``limit``."""
        # A first try with one chunk: normally nothing follows the stream.
        for size in sorted({min(CHUNK, limit + 1), limit + 1}):
            kept = self.read(self.end - size, self.end).rstrip(b"\0")
            if kept:
                return max(self.start, self.end - size) + len(kept)
        return None

    def _size(self) -> int:
        try:
            return self._file.seek(0, 2)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from error

    def _fetch(self, begin: int, end: int) -> bytes:
        parts = []
        try:
            self._file.seek(begin)
            # A read of an unbuffered file may return less than requested.
            while begin < end:
                part = self._file.read(end - begin)
                # The file is still being written to, or another process truncated it.
                if not part:
                    raise self.error("it became shorter while it was read")
                parts.append(part)
                begin += len(part)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from error
        return b"".join(parts)

"""Tables as plain text, for lists that are also read by grep and awk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..osutil.text import printable

# Between two columns.
GAP = "  "


def columns(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of aligned cells below their heads; the last column is as long as it is."""
    cells = [list(heads), *([printable(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(heads) - 1)]
    return [
        GAP.join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip()
        for row in cells
    ]

"""What a finding code is: a name, and what the rest of the pipeline decides by (``codes``)."""

from __future__ import annotations

# Where QEMU would stop, in the order of its execution; "" is for codes that predict no stop. A
# stage that QEMU completed refutes the predictions for it (judge.confirm).
REALISE = "realise"  # the destination's device is not realised
SOURCE = "source"  # the source's device could not have been realised
COMPARE = "compare"  # the loaded bytes are refused


class Code(str):
    """The name of a kind of finding, the verdict it leads to, and its meaning for the README.

    ``stage`` is one of :data:`REALISE`, :data:`SOURCE`, :data:`COMPARE` for a code that predicts
    that QEMU stops there. ``blocks_always``: the migration is blocked whatever the policy says.
    """

    __slots__ = ("blocks_always", "meaning", "stage", "verdict")
    verdict: str
    meaning: str
    stage: str
    blocks_always: bool

    def __new__(
        cls, name: str, verdict: str, meaning: str, stage: str = "", blocks_always: bool = False
    ) -> Code:
        # A str subclass: json and lxml take it as it is, and it compares equal to its name.
        code = super().__new__(cls, name)
        code.verdict, code.meaning, code.stage = verdict, meaning, stage
        code.blocks_always = blocks_always
        # The table is filled here, so no code can be missing from it.
        CODES[name] = code
        return code


CODES: dict[str, Code] = {}

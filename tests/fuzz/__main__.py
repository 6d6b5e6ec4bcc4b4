"""Coverage-guided fuzzing of what the hook reads on standard input (``make fuzz RUNS=1000000``).

    python -m fuzz CORPUS [LIBFUZZER_OPTION...]

New inputs that reach other code are kept in the directory CORPUS, one that breaks a rule of
``fuzz.judged`` in a file ``crash-*``, which is run again by giving it as an option. Every other
mutation is libFuzzer's own, of bytes; the rest are ``fuzz.mutate``'s, of elements.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["vfio_preflight"]):
    from fuzz import judged
    from fuzz.mutate import mutate

from fuzz.seeds import seeds


def _mutated(data: bytes, max_size: int, seed: int) -> bytes:
    chance = random.Random(seed)
    if chance.random() < 0.5:
        return atheris.Mutate(data, max_size)
    choice = bytes([chance.randrange(16)]) if chance.random() < 0.2 else data[:1] or b"\0"
    changed = choice + mutate(data[1:], chance)
    return changed if len(changed) <= max_size else data


def main() -> None:
    """Fuzz; libFuzzer ends the process."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    with tempfile.TemporaryDirectory() as directory:
        settings = judged.make_settings(Path(directory))

        def run(data: bytes) -> None:
            judged.judge(settings, data)

        atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], run, custom_mutator=_mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Peak memory and calls a second of `synth` on up to a million preferences, by a scripted model.

    python benchmarks/synthesis.py 10000 100000 1000000

Each size is made in a process of its own, in a folder that is removed. The model costs next to nothing, so
what is measured is the pipeline.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HEAD = "| pairs labelled | preferences | calls | peak memory | time | calls a second |\n" + "|---" * 6 + "|"
QUESTIONS, ANSWERS, PAIRS_A_USER = 1000, 4, 100


def measure(preferences: int) -> None:
    """Make a task of about so many labelled pairs; one line of figures."""
    from tests.synth.scripted import THINGS, WORDS, Script, Scripted, synthesis

    kind = {**THINGS, "count": QUESTIONS}
    model = Scripted(Script(knows=len(WORDS)))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = synthesis(
            Path(folder) / "task", model, questions={"kinds": [kind], "similarity": 1.0},
            users={"count": preferences // PAIRS_A_USER, "test_share": 0.1},
            answers={"views": ANSWERS, "similarity": 1.0}, refinement={"rounds": 0},
            labels={"questions": PAIRS_A_USER, "test_questions": 10, "pairs": 1},
        ).run()  # fmt: skip
    seconds, peak = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = dict(figures or [])
    print(
        f"| {counts['pairs labelled']:,} | {counts['preferences kept']:,} | {model.asked:,} | {peak:.0f} MiB "
        f"| {seconds:.0f} s | {model.asked / seconds:,.0f} |",
        flush=True,
    )


def main() -> None:
    """A row for each size."""
    if sys.argv[1] == "--one":
        measure(int(sys.argv[2]))
        return
    print(HEAD)
    for size in sys.argv[1:]:
        subprocess.run([sys.executable, __file__, "--one", size], check=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()

"""What test_team starts as two processes: for each job, trains `STAGES`, each from the one before.

torchrun --standalone --nproc-per-node 2 -m tests.lm.together MODEL [fsdp]RANK:FOLDER...
"""

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import fspo_bench.lm.train as train_module
from fspo_bench import team
from fspo_bench.lm.policy import Policy
from fspo_bench.lm.shared_context import Branch
from fspo_bench.lm.train import Encoded, Stage, train_stage
from fspo_bench.store import Store

STAGES = [Stage("sft", 10, 1e-3, contexts_per_step=3), Stage("ipo", 10, 1e-3, 0.1, contexts_per_step=3)]
"""Four steps, of three, three, three and one context: shares are unequal, and in the last one is empty."""


def episodes() -> list[Encoded]:
    """Contexts with one, two or three pairs."""
    rng = random.Random(0)

    def ids(k: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, 200) for _ in range(k))

    def pairs(k: int) -> tuple[Branch, ...]:
        questions = [ids(3) for _ in range(k)]
        return tuple(Branch(q, (first, *ids(3))) for q in questions for first in (50, 60))

    return [Encoded(ids(12), pairs(1 + n % 3)) for n in range(10)]


def train(model: str, lora_rank: int, folder: Path) -> list[Path]:
    """The finished stages' folders, in the store FOLDER/store; FOLDER/kept keeps what a kill would leave."""
    policy, store = Policy.open(model, lora_rank, "float32", seed=0), Store(folder / "store")
    original, every = train_module._checkpoint, train_module.CHECKPOINT_EVERY
    train_module.CHECKPOINT_EVERY = 2
    train_module._checkpoint = _then(
        original, lambda *args: shutil.copytree(args[2], folder / "kept" / args[2].name)
    )
    folders = []
    try:
        for stage in STAGES:
            train_stage(policy, stage, episodes(), 4, store)
            folders.append(store.folder_path(policy.state))
    finally:
        train_module._checkpoint, train_module.CHECKPOINT_EVERY = original, every
    return folders


def _then(first: Callable[..., None], second: Callable[..., object]) -> Callable[..., None]:
    def both(*args: object) -> None:
        first(*args)
        second(*args)

    return both


def as_launched(fsdp: bool) -> None:
    """In every process: what the launcher said, and checkpoints at the same steps."""
    os.environ["ACCELERATE_USE_FSDP"] = str(fsdp)
    train_module.CHECKPOINT_EVERY = 2


if __name__ == "__main__":
    model, *jobs = sys.argv[1:]
    with team.joined() as leads:
        if not leads:
            sys.exit(team.follow())
        for job in jobs:
            lora_rank, _, folder = job.removeprefix("fsdp").partition(":")
            team.call(as_launched, job.startswith("fsdp"))
            as_launched(job.startswith("fsdp"))
            train(model, int(lora_rank), Path(folder))
        print(f"led {team.size()}")

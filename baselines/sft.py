"""SFT: fine-tuned on the preferred answers of all training users, no shots (the human study's baseline).

    fspo-bench run --method sft --task roleplay

The first stage of `ipo` and `dpo` alone: what knowing the domain is worth without knowing the user.
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen
from fspo_bench.lm.train import Stage
from fspo_bench.presets import Preset

SEES = ()


@dataclass(frozen=True)
class Config:
    """No settings beside the preset's budget."""


def context(seen: Seen, config: Config) -> Context:
    """The question alone."""
    return Context()


def stages(config: Config, preset: Preset) -> list[Stage]:
    """One pass of maximum likelihood."""
    return [Stage("sft", preset.sft_contexts, preset.sft_lr, contexts_per_step=preset.contexts_per_step)]

"""IPO: population-level preference optimization, no shots (arXiv 2310.12036, eq. 17).

What FSPO gains over this row comes from reading the user. Two stages as in FSPO's paper: supervised
fine-tuning on the preferred answers of all training users, then IPO with that checkpoint as reference,

    h = [log pi(y_w|x) - log ref(y_w|x)] - [log pi(y_l|x) - log ref(y_l|x)],     (h - 1/(2 beta))^2

    fspo-bench run --method ipo --task roleplay

Faithful: two stages, summed log-probabilities (beta does not carry over to means), every training
user's pairs mixed. Differs: the pairs of one step are those of one user (K = `queries`), AdamW and
LoRA unless the preset is `paper`.
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen
from fspo_bench.lm.train import Stage, two_stages
from fspo_bench.presets import Preset

SEES = ()


@dataclass(frozen=True)
class Config:
    """No settings beside the preset's budget."""


def context(seen: Seen, config: Config) -> Context:
    """The question alone."""
    return Context()


def stages(config: Config, preset: Preset) -> list[Stage]:
    """Supervised fine-tuning, then IPO."""
    return two_stages("ipo", preset)

"""FSPO: few-shot preference optimization (arXiv 2502.19312, ICLR 2026).

Each user is a task. The policy reads N of the user's preferences and is trained to prefer, behind
them, the answer this user preferred to a further question (eq. 5), with IPO (eq. 6) or DPO:

    h = [log pi(y_w|z) - log ref(y_w|z)] - [log pi(y_l|z) - log ref(y_l|z)],   z = (shots, question)
    ipo: (h - 1/(2 beta))^2          dpo: -log sigmoid(beta h)

    fspo-bench run --method fspo --task roleplay
    fspo-bench run --method fspo --task roleplay --set loss=dpo

Faithful: two stages (Pref-FT on the preferred answer, then IPO with the Pref-FT checkpoint as
reference), summed log-probabilities, shots and queries from one user. Differs: several held-out
pairs stand behind one context (K = `queries`; 1 in the paper), shots and queries never share a
question, AdamW and LoRA unless the preset is `paper`.
"""

from dataclasses import dataclass

from fspo_bench.lm.prompts import Context, Seen, shots_context
from fspo_bench.lm.train import Stage, two_stages
from fspo_bench.presets import Preset

SEES = ("shots",)


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget."""

    loss: str = "ipo"
    """`ipo` or `dpo`."""

    def __post_init__(self) -> None:
        if self.loss not in ("ipo", "dpo"):
            raise ValueError(f"loss is '{self.loss}', known: ipo, dpo")


def context(seen: Seen, config: Config) -> Context:
    """The user's preferences."""
    return shots_context(seen)


def stages(config: Config, preset: Preset) -> list[Stage]:
    """Pref-FT, then the preference loss."""
    return two_stages(config.loss, preset)

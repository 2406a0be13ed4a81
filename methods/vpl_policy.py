"""VPL policy: a policy that reads VPL's latent user as soft tokens, trained on VPL's rewards.

VPL (arXiv 2408.10075) stops at rewards for language models; for control it relabels the offline data with
r(s, z), appends z to what the policy observes, and trains on that. The same here: `vpl` is trained, each
training user's z stands before the question as soft tokens P z, and pairs are labelled anew by the
bounded reward, whoever labelled them first,

    1. max log pi(y | P z, x)  for the answers that the reward prefers
    2. -log sigmoid(beta h)    on the pairs, h as in DPO, with the first stage as reference

    fspo-bench run --method vpl_policy --task roleplay

Faithful: relabelled offline data, the latent appended to the input, z inferred from a few labels at test.
Differs: soft tokens and two preference-optimization stages stand for the control policy's features and
IQL; pairs whose bounded rewards differ by less than `least` are left out. No shots are in the context:
all that the policy knows of the user is z.
"""

from dataclasses import dataclass

from fspo_bench.lab import Lab, Lesson, Prompted, TrainingEpisode
from fspo_bench.lm.prompts import Context, Seen
from fspo_bench.lm.train import Stage
from fspo_bench.packs import load_builtin_method
from fspo_bench.rewards import Reward

SEES = ("shots",)
BUILDS_ON = ("vpl",)
vpl = load_builtin_method("vpl")


@dataclass(frozen=True)
class Config:
    """Settings beside the preset's budget."""

    tokens: int = 4
    """Soft tokens that a latent user becomes."""
    latent: int = 64
    """Dimensions of z."""
    kl_weight: float = 1e-4
    least: float = 0.02
    """From which difference of bounded rewards on a pair is trained on."""

    def __post_init__(self) -> None:
        for key in ("tokens", "latent"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, must be at least 1")
        if not 0 <= self.least < 1:
            raise ValueError(f"least is {self.least}, must be at least 0 and below 1")


def fit(lab: Lab, config: Config) -> Prompted:
    """Train the reward, then the policy on what it says."""
    rewards = vpl.trained(lab, vpl.Config(latent=config.latent, kl_weight=config.kl_weight))
    lab.policy.soft = (config.latent, config.tokens)
    latents: dict[Seen, Context] = {}

    def context(seen: Seen) -> Context:
        if seen not in latents:
            (z,) = rewards.latent([seen])
            latents[seen] = Context(latent=tuple(round(float(x), 4) for x in z))
        return latents[seen]

    def lessons(contexts: int, seed: int, pairs: bool) -> list[Lesson]:
        rows = [relabelled(rewards.reward, e, config.least) for e in lab.episodes(contexts, seed)]
        kept = [(seen, pair) for seen, pair in rows if pair]
        return [
            Lesson(context(seen), tuple(answer for pair in labelled for answer in pair[: 1 + pairs]))
            for seen, labelled in kept
        ]

    preset = lab.preset
    sft = Stage("sft", preset.sft_contexts, preset.sft_lr, contexts_per_step=preset.contexts_per_step)
    dpo = Stage("dpo", preset.contexts, preset.lr, preset.dpo_beta, preset.contexts_per_step)
    first = lab.train(sft, lessons(preset.sft_contexts, 0, pairs=False))
    second = lab.train(dpo, lessons(preset.contexts, 1, pairs=True), first)
    return Prompted(lab, context, second, first)


Labelled = tuple[tuple[str, str], tuple[str, str]]  # (prompt, preferred), (prompt, other)


def relabelled(reward: Reward, episode: TrainingEpisode, least: float) -> tuple[Seen, list[Labelled]]:
    """The episode's queries as the reward labels them for this user."""
    items = [(episode.seen, q.prompt, t) for q in episode.queries for t in (q.chosen, q.rejected)]
    bounded = reward(items)
    pairs: list[Labelled] = []
    for n, q in enumerate(episode.queries):
        more = bounded[2 * n] - bounded[2 * n + 1]
        if abs(more) >= least:
            best, other = (q.chosen, q.rejected) if more > 0 else (q.rejected, q.chosen)
            pairs.append(((q.prompt, best), (q.prompt, other)))
    return episode.seen, pairs

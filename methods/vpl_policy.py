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
IQL. No shots are in the context:
all that the policy knows of the user is z.
"""

from dataclasses import dataclass, replace

from fspo_bench.data.tasks import Preference
from fspo_bench.lab import Lab, Prompted, TrainingEpisode, lesson_of
from fspo_bench.lm.prompts import Context, Seen
from fspo_bench.lm.train import two_stages
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

    def __post_init__(self) -> None:
        for key in ("tokens", "latent"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, must be at least 1")
        vpl.Config(latent=self.latent, kl_weight=self.kl_weight)  # refuses what it cannot use


def fit(lab: Lab, config: Config) -> Prompted:
    """Train the reward, then the policy on what it says."""
    rewards = vpl.trained(lab, vpl.Config(latent=config.latent, kl_weight=config.kl_weight))
    of_rewards, lab.parameters = lab.parameters, 0
    lab.policy.soft = (config.latent, config.tokens)
    latents: dict[Seen, Context] = {}

    def context(seen: Seen) -> Context:
        if seen not in latents:
            (z,) = rewards.latent([seen])
            latents[seen] = Context(latent=tuple(round(float(x), 4) for x in z))
        return latents[seen]

    reference = state = lab.start
    for number, stage in enumerate(two_stages("dpo", lab.preset)):
        lessons = [
            lesson_of(context(e.seen), relabelled(rewards.reward, e), stage)
            for e in lab.episodes(stage.contexts, number)
        ]
        reference, state = state, lab.train(stage, lessons, state)
    lab.parameters += of_rewards
    return Prompted(lab, context, state, reference)


def relabelled(reward: Reward, episode: TrainingEpisode) -> list[Preference]:
    """The episode's queries as the reward labels them for this user."""
    both = [(episode.seen, q.prompt, text) for q in episode.queries for text in (q.chosen, q.rejected)]
    bounded = reward(both)
    return [
        q if bounded[2 * n] >= bounded[2 * n + 1] else replace(q, chosen=q.rejected, rejected=q.chosen)
        for n, q in enumerate(episode.queries)
    ]

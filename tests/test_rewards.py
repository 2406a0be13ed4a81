"""What reward methods share: best of K, embeddings by user, users held out and swapped."""

from collections.abc import Sequence

from fspo_bench.data.tasks import Preference
from fspo_bench.lm.prompts import Seen
from fspo_bench.rewards import BestOfK, Judged, another_user, by_user, embedded_episodes, held_out
from tests.methods.planted import PlantedLab, vector


class _Pool:
    def candidates(self, prompts: Sequence[str]) -> dict[str, list[str]]:
        return {p: ["bb", "a", "cccc"] for p in prompts}


def test_best_of_k_answers_with_what_each_user_wants_most() -> None:
    long, short = Seen(description="long"), Seen(description="short")

    def reward(items: Sequence[Judged]) -> list[float]:
        return [len(text) * (1 if seen is long else -1) for seen, _, text in items]

    method = BestOfK(_Pool(), reward)  # type: ignore[arg-type]
    asked = [(long, "p"), (short, "p"), (long, "q")]
    assert [r.text for r in method.answer(asked)] == ["cccc", "a", "cccc"]
    pair = Preference("q", "p", "xx", "y")
    assert method.margins([(long, pair), (short, pair)]) == [1, -1]


def test_items_are_found_by_user() -> None:
    a, b = Seen(description="a"), Seen(description="b")
    assert by_user([(a, "p", "x"), (b, "p", "y"), (a, "q", "z")]) == {a: [0, 2], b: [1]}


def test_a_tenth_of_the_users_is_held_out_or_of_the_episodes_of_few() -> None:
    lab = PlantedLab()
    trained, measured = held_out(lab.episodes(300, 0))
    assert len(trained) + len(measured) == 300
    assert len({e.user_id for e in measured}) == lab.users // 10
    assert not {e.user_id for e in trained} & {e.user_id for e in measured}
    few = PlantedLab(users=4).episodes(20, 0)
    assert [len(part) for part in held_out(few)] == [18, 2]


def test_another_user_is_never_the_same() -> None:
    episodes = PlantedLab(users=3).episodes(9, 0)
    others = another_user(episodes)
    assert others is not None
    assert all(episodes[m].user_id != e.user_id for m, e in zip(others, episodes, strict=True))
    assert another_user(PlantedLab(users=1).episodes(3, 0)) is None


def test_embeddings_stand_chosen_before_rejected_with_their_episode() -> None:
    lab = PlantedLab()
    episodes = lab.episodes(3, 0)
    shots, queries = embedded_episodes(lab, episodes, "last")  # type: ignore[arg-type]
    for e, own_shots, own_queries in zip(episodes, shots, queries, strict=True):
        for preferences, points in ((e.seen.shots, own_shots), (e.queries, own_queries)):
            assert points.shape[:2] == (len(preferences), 2)
            for p, (chosen, rejected) in zip(preferences, points, strict=True):
                assert (chosen.numpy() == vector((p.prompt, p.chosen))).all()
                assert (rejected.numpy() == vector((p.prompt, p.rejected))).all()

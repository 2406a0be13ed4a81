"""Build the roleplay task from its sources; the same sources always give the same bytes.

    python tasks/roleplay/build.py

Reads   source/questions/*.jsonl   prompts, views with both readers' loadings, weak answers
        source/fragments.json      sentences from which a description is composed
Writes  users.jsonl, questions.jsonl, answers.jsonl

1,500 users = 5 age groups x 5 world regions x 2 genders x 30. A user's traits are four everyday
dispositions (which make traits go together, as they do in people), a tilt shared by the cell's
demographics, and a part of its own; the six strongest are kept, at strength 1 or 2. The tilts are
arbitrary draws from a fixed seed: they say nothing about real ages, regions or genders.
"""

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
AGES = {"18-24": (18, 24), "25-34": (25, 34), "35-49": (35, 49), "50-64": (50, 64), "65+": (65, 84)}
REGIONS = ["Africa", "Asia", "Europe", "Latin America", "North America and Oceania"]
GENDERS = ["woman", "man"]
PER_CELL = 30
TRAITS = [
    "thrift", "novelty", "company", "outdoors", "vigour", "planning",
    "gadgets", "handmade", "evidence", "ambition", "civic", "playful",
]  # fmt: skip
DISPOSITIONS = [
    {"outdoors": 1.0, "vigour": 1.0, "novelty": 0.6, "gadgets": -0.4},
    {"handmade": 1.0, "thrift": 1.0, "gadgets": -0.5, "civic": 0.4, "novelty": -0.4},
    {"planning": 1.0, "evidence": 1.0, "ambition": 1.0, "playful": -0.7, "gadgets": 0.5},
    {"company": 1.0, "playful": 0.8, "civic": 0.8, "ambition": -0.3},
]
OWN_SD, TILT_SD, KEPT, STRONG = 0.4, 0.25, 6, 1.0
# of the 30 users of a cell: 22 to train on, 4 to test on, 4 for the judge
USER_SPLITS = ["train"] * 22 + ["test"] * 4 + ["judge"] * 4
TEST_QUESTIONS_PER_AREA = 3


def reconciled(author: dict[str, int], reader: dict[str, int]) -> dict[str, float]:
    """Loadings both saw (their mean); what one alone saw counts half, and only to make up two."""
    both = {t: (author[t] + reader[t]) / 2 for t in author if t in reader and author[t] * reader[t] > 0}
    alone = sorted((t for t in author if t not in reader), key=lambda t: (-abs(author[t]), t))
    for trait in alone[: max(0, 2 - len(both))]:
        both[trait] = author[trait] / 2
    strongest = sorted(both, key=lambda t: (-abs(both[t]), t))[:3]
    return {t: both[t] for t in TRAITS if t in strongest}


def draw_traits(rng: random.Random, tilt: dict[str, float]) -> dict[str, int]:
    """A user's kept traits: -2, -1, 1 or 2 each."""
    held = [rng.gauss(0, 1) for _ in DISPOSITIONS]
    raw = {
        t: sum(h * d.get(t, 0.0) for h, d in zip(held, DISPOSITIONS, strict=True))
        + tilt[t]
        + rng.gauss(0, OWN_SD)
        for t in TRAITS
    }
    kept = sorted(TRAITS, key=lambda t: -abs(raw[t]))[:KEPT]
    return {t: (1 if raw[t] > 0 else -1) * (2 if abs(raw[t]) > STRONG else 1) for t in TRAITS if t in kept}


def describe(
    rng: random.Random, fragments: dict, age: str, region: str, gender: str, traits: dict[str, int]
) -> str:
    """A life, then a sentence for each trait, strongest first."""
    years = rng.randint(*AGES[age])
    article = "An" if years == 18 or 80 <= years <= 89 else "A"
    life = rng.choice(fragments["lives"][f"{age}|{region}"])
    sentences = [
        f"{article} {years}-year-old {gender} from {rng.choice(fragments['countries'][region])} who {life}."
    ]
    for trait in sorted(traits, key=lambda t: (-abs(traits[t]), rng.random())):
        level = ("plus" if traits[trait] > 0 else "minus") + str(abs(traits[trait]))
        sentences.append(rng.choice(fragments["traits"][trait][level]))
    return " ".join(sentences)


def build_users(fragments: dict) -> list[dict]:
    """The rows of users.jsonl."""
    tilts = {}
    for name in [*AGES, *REGIONS, *GENDERS]:
        rng = random.Random(f"roleplay tilt {name}")
        tilts[name] = {t: rng.gauss(0, TILT_SD) for t in TRAITS}
    users = []
    for age in AGES:
        for region in REGIONS:
            for gender in GENDERS:
                tilt = {t: tilts[age][t] + tilts[region][t] + tilts[gender][t] for t in TRAITS}
                for n in range(PER_CELL):
                    user_id = f"u{len(users):04d}"
                    rng = random.Random(f"roleplay user {user_id}")
                    traits = draw_traits(rng, tilt)
                    users.append({
                        "user_id": user_id, "split": USER_SPLITS[n], "group": f"{age}|{region}|{gender}",
                        "description": describe(rng, fragments, age, region, gender, traits),
                        "traits": traits,
                    })  # fmt: skip
    return users


def build_texts() -> tuple[list[dict], list[dict]]:
    """The rows of questions.jsonl and answers.jsonl."""
    questions, answers = [], []
    for file in sorted((HERE / "source" / "questions").glob("*.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for_methods = sorted(row["id"] for row in rows if row["split"] == "method")
        rng = random.Random(f"roleplay test {file.stem}")
        tested = rng.sample(for_methods, min(TEST_QUESTIONS_PER_AREA, len(for_methods)))
        for row in rows:
            split = "judge" if row["split"] == "judge" else "test" if row["id"] in tested else "train"
            questions.append(
                {"question_id": row["id"], "split": split, "kind": row["kind"], "prompt": row["prompt"]}
            )
            for n, view in enumerate(row["views"]):
                loadings = reconciled(view["loadings"], view["second_reader"])
                answers.append(answer(row["id"], str(n), view["text"], loadings))
            for n, text in enumerate(row["weak"]):
                answers.append(answer(row["id"], f"weak{n}", text, {}) | {"weak": True})
    return questions, answers


def answer(question_id: str, name: str, text: str, loadings: dict[str, float]) -> dict:
    """One row of answers.jsonl."""
    return {
        "answer_id": f"{question_id}/{name}",
        "question_id": question_id,
        "text": text,
        "loadings": loadings,
    }


def write(name: str, rows: list[dict]) -> None:
    """One JSON object a line."""
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{name}: {len(rows)} rows")


def main() -> None:
    """Build all three files."""
    fragments = json.loads((HERE / "source" / "fragments.json").read_text(encoding="utf-8"))
    questions, answers = build_texts()
    write("users.jsonl", build_users(fragments))
    write("questions.jsonl", questions)
    write("answers.jsonl", answers)


if __name__ == "__main__":
    main()

"""Build the elix_hard task from its sources; the same sources always give the same bytes.

    python tasks/elix_hard/build.py

Reads   source/questions.jsonl   a question a line: its field, five explanations, from a child's to a
                                 researcher's, and a weak one
Writes  users.jsonl, questions.jsonl, answers.jsonl

550 users, each with a level of knowledge (1 to 5) in each of twelve fields. Knowledge goes together
as it does in people: everybody has a home among four families of fields and is best in one of its
fields, has learned a good deal in a second family, and elsewhere knows what schooling left. A user
prefers the explanation whose level is nearer to its own in the question's field.
"""

import json
import random
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
FAMILIES = {
    "exact": ["mathematics", "physics", "astronomy"],
    "making": ["computing", "engineering", "chemistry"],
    "life": ["biology", "medicine", "psychology"],
    "culture": ["economics", "history", "music"],
}
FIELDS = [field for family in FAMILIES.values() for field in family]
NEAR = {"exact": "making", "making": "life", "life": "culture", "culture": "exact"}  # each once
USER_SPLITS = ["train"] * 430 + ["test"] * 80 + ["judge"] * 40
QUESTION_SPLITS = ["train"] * 4 + ["test"] * 2 + ["judge"] * 2  # of a field
KNOWS = {
    5: ["does research in {}", "works at the front of {}", "publishes on {}", "holds a doctorate in {}"],
    4: ["studied {} at university", "took a degree in {}", "knows {} as a graduate does", "works with {} daily"],
    3: ["remembers {} from high school", "had good lessons in {} at sixteen", "kept up the school level of {}"],
    2: ["has only the basics of {}", "stopped with {} early at school", "knows a little of {}"],
    1: ["knows nothing of {}", "never had a lesson in {}", "is lost in {}", "comes new to {}"],
}  # fmt: skip
LIKES = {
    5: "wants specialist concepts there", 4: "wants its terminology and theory",
    3: "wants textbook terms", 2: "wants plain words with comparisons", 1: "wants everyday words and pictures",
}  # fmt: skip


def profile(rng: random.Random) -> dict[str, int]:
    """A user's level in each field."""
    home = rng.choice(list(FAMILIES))
    best = rng.choice(FAMILIES[home])
    schooling = rng.choice([1, 1, 2, 2])
    levels = {}
    for family, fields in FAMILIES.items():
        for field in fields:
            if field == best:
                level = 5
            elif family == home:
                level = rng.choice([4, 4, 5])
            elif family == NEAR[home]:
                level = rng.choice([3, 4, 4, 5])
            else:
                level = schooling + rng.choice([-1, 0, 0, 0, 1])
            levels[field] = min(5, max(1, level))
    return {field: levels[field] for field in FIELDS}


def describe(levels: dict[str, int], rng: random.Random) -> str:
    """One sentence a level, the highest first."""
    sentences = []
    for level in sorted(set(levels.values()), reverse=True):
        fields = [f for f in FIELDS if levels[f] == level]
        named = ", ".join(fields[:-1]) + (" and " if len(fields) > 1 else "") + fields[-1]
        known = rng.choice(KNOWS[level]).format(named)
        sentences.append(f"{known[0].upper()}{known[1:]}, and {LIKES[level]}.")
    return " ".join(sentences)


def build() -> dict[str, list[dict]]:
    """The rows of each file."""
    splits = random.Random("elix_hard users").sample(USER_SPLITS, len(USER_SPLITS))
    users = []
    for n, split in enumerate(splits):
        rng = random.Random(f"elix_hard user {n}")
        levels = profile(rng)
        users.append(
            {"user_id": f"e{n:03d}", "split": split, "description": describe(levels, rng), "traits": levels}
        )
    lines = (HERE / "source" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda row: (row["area"], row["id"]))
    questions, answers = [], []
    for field, group in groupby(rows, key=lambda row: row["area"]):
        of_field = list(group)
        shuffled = random.Random(f"elix_hard {field}").sample(QUESTION_SPLITS, len(of_field))
        for row, split in zip(of_field, shuffled, strict=True):
            questions.append(
                {"question_id": row["id"], "split": split, "kind": field, "prompt": row["prompt"]}
            )
            answers += [
                {"answer_id": f"{row['id']}/{level}", "question_id": row["id"], "text": text,
                 "loadings": {"level": level}}
                for level, text in enumerate(row["levels"], 1)
            ]  # fmt: skip
            answers.append(
                {"answer_id": f"{row['id']}/weak", "question_id": row["id"], "text": row["weak"],
                 "loadings": {}, "weak": True}
            )  # fmt: skip
    return {"users": users, "questions": questions, "answers": answers}


if __name__ == "__main__":
    for name, rows in build().items():
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{name}.jsonl: {len(rows)} rows")

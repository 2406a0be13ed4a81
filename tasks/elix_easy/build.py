"""Build the elix_easy task from its sources; the same sources always give the same bytes.

    python tasks/elix_easy/build.py

Reads   source/questions.jsonl   a question a line: five explanations, from a child's to a
                                 researcher's, and a weak one
Writes  users.jsonl, questions.jsonl, answers.jsonl

Five users, one for each level, as in the paper. They are `seen`: trained on, and tested on other
questions. A user prefers the explanation whose level is nearer to its own.
"""

import json
import random
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).parent
USERS = {
    "elementary": "A child of about eight in elementary school. Wants everyday words, short sentences and things it can picture, and no technical terms.",
    "middle_school": "A pupil of about twelve in middle school. Wants plain words with a comparison from daily life, and a new word only if it is explained.",
    "high_school": "A pupil of about sixteen in high school. Wants the textbook's terms and how one thing leads to the next, without university detail.",
    "college": "A college student of the subject. Wants its terminology and standard theory, compactly; has no need of everyday comparisons.",
    "expert": "A researcher in the subject. Wants specialist concepts, conditions and limits; everything basic is known.",
}  # fmt: skip
TEST, JUDGE = 0.2, 0.35  # shares of an area's questions; the rest is for training


def build() -> dict[str, list[dict]]:
    """The rows of each file."""
    users = [
        {"user_id": name, "split": "seen", "description": text, "traits": {"level": level}}
        for level, (name, text) in enumerate(USERS.items(), 1)
    ]
    lines = (HERE / "source" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda row: (row["area"], row["id"]))
    questions, answers = [], []
    for area, group in groupby(rows, key=lambda row: row["area"]):
        of_area = list(group)
        n_test, n_judge = round(TEST * len(of_area)), round(JUDGE * len(of_area))
        splits = ["test"] * n_test + ["judge"] * n_judge + ["train"] * (len(of_area) - n_test - n_judge)
        random.Random(f"elix_easy {area}").shuffle(splits)
        for row, split in zip(of_area, splits, strict=True):
            questions.append(
                {"question_id": row["id"], "split": split, "kind": area, "prompt": row["prompt"]}
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

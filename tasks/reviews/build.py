"""Build the reviews task from its sources; the same sources always give the same bytes.

    python tasks/reviews/build.py

Reads   source/{film,tv,anime,book}.jsonl   a work a line: eight reviews (sentiment x length x two
                                            wordings) and a weak one
Writes  users.jsonl, questions.jsonl, answers.jsonl

Eight users, as in the paper: four want one thing (praise, criticism, brevity, detail) and are trained
on (`seen`: they are tested on other works); the four that want two at once appear in no training
data (`test`), and are what interpolation means here.
"""

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
WANTS = {
    "positive": ({"positive": 1}, "Likes reviews that praise: what is good about a work, said warmly. Does not mind whether they are short or long."),
    "negative": ({"positive": -1}, "Likes reviews that criticise: what is wrong with a work, said plainly. Does not mind whether they are short or long."),
    "concise": ({"verbose": -1}, "Likes short reviews: a sentence or two and no more. Does not mind whether they praise or criticise."),
    "verbose": ({"verbose": 1}, "Likes long reviews that unfold their reasons over several sentences. Does not mind whether they praise or criticise."),
    "positive+concise": ({"positive": 1, "verbose": -1}, "Likes reviews that praise a work, and wants them in a sentence or two."),
    "positive+verbose": ({"positive": 1, "verbose": 1}, "Likes reviews that praise a work, and wants the praise unfolded over several sentences."),
    "negative+concise": ({"positive": -1, "verbose": -1}, "Likes reviews that criticise a work, and wants the criticism in a sentence or two."),
    "negative+verbose": ({"positive": -1, "verbose": 1}, "Likes reviews that criticise a work, and wants the criticism unfolded over several sentences."),
}  # fmt: skip
SPLITS = ["train"] * 8 + ["test"] * 3 + ["judge"] * 4  # of the works of a kind


def build() -> dict[str, list[dict]]:
    """The rows of each file."""
    users = [
        {"user_id": name, "split": "test" if "+" in name else "seen",
         "group": "interpolated" if "+" in name else "trained", "description": text, "traits": traits}
        for name, (traits, text) in WANTS.items()
    ]  # fmt: skip
    questions, answers = [], []
    for file in sorted((HERE / "source").glob("*.jsonl")):
        works = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        splits = random.Random(f"reviews {file.stem}").sample(SPLITS, len(works))
        for work, split in zip(works, splits, strict=True):
            questions.append(
                {"question_id": work["id"], "split": split, "kind": file.stem, "prompt": work["prompt"]}
            )
            for sentiment, positive in (("p", 1), ("n", -1)):
                for length, verbose in (("c", -1), ("v", 1)):
                    for wording in "12":
                        cell = f"{sentiment}{length}{wording}"
                        answers.append(
                            {"answer_id": f"{work['id']}/{cell}", "question_id": work["id"],
                             "text": work[cell], "loadings": {"positive": positive, "verbose": verbose}}
                        )  # fmt: skip
            answers.append(
                {"answer_id": f"{work['id']}/weak", "question_id": work["id"], "text": work["weak"],
                 "loadings": {}, "weak": True}
            )  # fmt: skip
    return {"users": users, "questions": questions, "answers": answers}


if __name__ == "__main__":
    for name, rows in build().items():
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"{name}.jsonl: {len(rows)} rows")

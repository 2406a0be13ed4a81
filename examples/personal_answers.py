"""Personal answers through the plain OpenAI API: a user's shots, a question, an answer of each model served.

    fspo-bench serve RUN --start                            # in one terminal
    python examples/personal_answers.py examples/user.json  # in another

The shots are laid out as a policy saw them in training (docs/serving.md): copy `messages` into your service,
or `messages_of_both_sides` for a run whose preset shows both sides of a shot (`gpu` and `paper`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from openai import OpenAI

User = dict[str, Any]  # `instruction`, `shots` (each `prompt`, `chosen`, `rejected`) and `question`


def messages(user: User) -> list[dict[str, str]]:
    """Each shot is an earlier turn of the chat, with the answer that the user preferred."""
    system = "The earlier answers are the ones this user prefers; answer in the same way."
    chat = [{"role": "system", "content": f"{user['instruction']} {system}".strip()}]
    for shot in user["shots"]:
        chat += [
            {"role": "user", "content": shot["prompt"]},
            {"role": "assistant", "content": shot["chosen"]},
        ]
    return [*chat, {"role": "user", "content": user["question"]}]


def messages_of_both_sides(user: User) -> list[dict[str, str]]:
    """The shots are worked examples in the message of the question."""
    text = ""
    for k, shot in enumerate(user["shots"], 1):
        text += f"# Example {k}\n## Question\n{shot['prompt']}\n"
        text += f"## Preferred Response\n{shot['chosen']}\n## Dispreferred Response\n{shot['rejected']}\n\n"
    text += "# Task\nAnswer the way this user prefers, given the examples.\n## Question\n"
    chat = [{"role": "system", "content": user["instruction"]}] if user["instruction"] else []
    return [*chat, {"role": "user", "content": text + user["question"]}]


def main() -> None:
    """Print the answer of every model that the server has: the base, and the adapters trained on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("user", type=Path, help="a JSON file as examples/user.json")
    parser.add_argument("--url", default="http://localhost:8000/v1", help="of the server")
    parser.add_argument("--both-sides", action="store_true", help="for a run whose preset shows both sides")
    arguments = parser.parse_args()
    user = json.loads(arguments.user.read_text(encoding="utf-8"))
    chat = messages_of_both_sides(user) if arguments.both_sides else messages(user)
    client = OpenAI(base_url=arguments.url, api_key="none")
    for model in client.models.list():
        answer = client.chat.completions.create(
            model=model.id,
            messages=chat,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=80,
        )
        print(f"{model.id}:\n{answer.choices[0].message.content}\n")


if __name__ == "__main__":
    main()

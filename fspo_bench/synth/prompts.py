"""What each stage asks a model, in our own words. What many requests share comes first."""

from __future__ import annotations

from collections.abc import Sequence

from fspo_bench.synth.domain import Answers, Domain, Kind

WRITER = "You write material for a study of what different people like. You do exactly what is asked."
STAND_IN = (
    "You stand in for one person and say which of two answers this person would rather get. Whether you "
    "would like it yourself does not matter, only whether it serves this person and this question."
)


def more_questions(domain: Domain, kind: Kind, examples: Sequence[str], count: int) -> str:
    """Further questions of a kind."""
    return (
        f"{domain.about}\n\nHere are questions of one kind: {kind.about}\n\n{_bulleted(examples)}\n\n"
        f"Write {count} further questions of this kind. Each must be about something else than the ones "
        "above and than each other, stand alone, and be one sentence. Reply with a numbered list of the "
        "questions and nothing else."
    )


def persona(domain: Domain, traits: Sequence[str]) -> str:
    """A person with these traits."""
    return (
        f"{domain.about}\n\nInvent one person with these traits:\n\n{_bulleted(traits)}\n\n"
        f"{domain.users.about or 'Say who the person is and what the person likes and dislikes.'}\n"
        "Be concrete: what you write must help to tell which of two good answers this person would prefer. "
        "Write in the third person, without a name, as one paragraph of 40 to 90 words and nothing else."
    )


def views(domain: Domain, question: str, count: int) -> str:
    """Different views on a question, before any answer is written."""
    return (
        f"{domain.about}\n\nQuestion: {question}\n\n"
        f"Sensible people would want different answers to this. Name {count} clearly different views that "
        "an answer could take, each in one short sentence: what it advises or how it goes about it, so that "
        "each would please some people and not others. Reply with a numbered list and nothing else."
    )


def answer(domain: Domain, question: str, how: str, steer: str) -> str:
    """An answer: for a view, for a persona, or just so."""
    steered = {
        "view": f"Take this view, without naming it as a view: {steer}\n",
        "persona": f"Write it for this person, without mentioning the person: {steer}\n",
        "plain": "",
    }[how]
    least, most = _wanted(domain.answers)
    return (
        f"{domain.about}\n\nAnswer the question below. {domain.answers.about}\n{steered}"
        f"Write one paragraph of {least} to {most} words, no list and no heading, and nothing else.\n\n"
        f"Question: {question}"
    )


def _wanted(answers: Answers) -> tuple[int, int]:
    """The words asked for: well inside of what is kept."""
    least, most = answers.words
    return least + (most - least) // 5, most - (most - least) // 5


def label(domain: Domain, description: str, question: str, first: str, second: str) -> str:
    """Which of two answers a person would prefer."""
    guidance = f"{domain.labels.guidance}\n\n" if domain.labels.guidance else ""
    return (
        "Below are a description of a person, a question that this person asked, and two answers. Decide "
        "which one the person described would prefer, by how well it fits the description and answers the "
        "question. Ignore in which place an answer stands. Ignore how long it is, unless the description "
        f"speaks of length.\n\n{guidance}"
        f"## Person\n{description}\n\n## Question\n{question}\n\n"
        f"## Answer 1\n{first}\n\n## Answer 2\n{second}\n\n"
        "## Your verdict\nReply with the number alone: 1 or 2. Only if the description leaves it open, "
        "reply with 0."
    )


def statement(domain: Domain, description: str, question: str, chosen: str, other: str) -> str:
    """What would explain a choice that the description leaves open."""
    return (
        f"{domain.about}\n\nBelow are a description of a person, a question, and two answers. The "
        "description does not say enough to tell which answer this person prefers. In fact the person "
        "prefers the first one.\n\n"
        f"## Person\n{description}\n\n## Question\n{question}\n\n## The answer preferred\n{chosen}\n\n"
        f"## The other answer\n{other}\n\n"
        "Write one sentence to be added to the description: a lasting taste, habit or circumstance of this "
        "person that explains the choice and would help with other questions too. It must agree with the "
        "description, and must not mention the answers, their length or their place. Reply with the sentence "
        "alone."
    )


def _bulleted(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)

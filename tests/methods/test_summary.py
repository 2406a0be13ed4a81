"""Summary answers behind the shots and what the untouched model wrote about them."""

from fspo_bench.describe import REQUEST
from fspo_bench.lm.prompts import shots_context
from tests.test_describe import FakeLab, method_of, seen_of


def test_the_answer_stands_behind_shots_and_summary_and_nothing_is_trained() -> None:
    lab, seen = FakeLab(), seen_of("u1")
    (reply,) = method_of("summary").fit(lab).answer([(seen, "why?")])
    assert not lab.taught
    (describer, requests), (answerer, asked) = lab.written
    assert describer == answerer == lab.start
    assert requests == [(shots_context(seen), REQUEST)]
    ((context, question),) = asked
    assert question == "why?"
    assert reply.note == "start on shot of u1"
    assert reply.note in context.system
    assert context.turns == shots_context(seen).turns


def test_other_shots_give_another_summary() -> None:
    fitted = method_of("summary").fit(FakeLab())
    one, two = fitted.answer([(seen_of("u1"), "why?"), (seen_of("u2"), "why?")])
    assert one.note != two.note

"""The progress line."""

import pytest

from fspo_bench.progress import Line


@pytest.mark.parametrize(
    ("total", "done", "said"),
    [(4, 1, "things: 1/4, ETA "), (4, 4, "things: 4/4, in "), (4, 5, "things: 5/?, ETA ?")],
)
def test_a_stage_past_its_forecast_has_no_time_left_to_tell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int, done: int, said: str
) -> None:
    line = Line("things", total)
    for _ in range(done):
        line.advance(show=False)
    monkeypatch.setattr(line, "_shown", -100.0)
    line.show()
    assert said in capsys.readouterr().err

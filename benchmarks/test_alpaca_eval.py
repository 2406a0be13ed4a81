"""Our AlpacaEval figures beside AlpacaEval's own functions, on the same annotations (`make bench`)."""

import numpy as np
import pytest

from fspo_bench.evaluate.export import alpaca_rates

get_winrate = pytest.importorskip("alpaca_eval.metrics").get_winrate


@pytest.mark.parametrize("seed", range(20))
def test_rates_are_alpaca_evals(seed: int) -> None:
    """To 1e-9, with draws, certain verdicts and missing ones among them."""
    rng = np.random.default_rng(seed)
    p = rng.random(int(rng.integers(2, 900)))
    p[rng.random(len(p)) < 0.3] = 0.5
    p[rng.random(len(p)) < 0.2] = 1.0
    p[rng.random(len(p)) < 0.2] = 0.0
    preferences = [None if rng.random() < 0.1 else float(1 + x) for x in p]
    theirs = get_winrate([{"preference": np.nan if x is None else x} for x in preferences])
    ours = alpaca_rates(preferences)
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert value == pytest.approx(float(theirs[name]), abs=1e-9), name

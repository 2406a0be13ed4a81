# Each target does its own set-up: a .venv with pinned versions (CPU torch), nothing else on the machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-live test-browser bench compare lint data-cards judge judge-cards \
	leaderboard reproduce-ci micro docs clean

demo: .venv/ready
	$(BIN)/fspo-bench run --method fspo --task roleplay

test: .venv/ready
	$(BIN)/python -m pytest

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

test-live: .venv/ready
	tests/live/vllm_server.sh $(BIN)/python -m pytest -m live tests/live

test-browser: .venv/browser
	$(BIN)/python -m pytest -m browser tests/leaderboard

bench: .venv/bench
	$(BIN)/python -m pytest benchmarks/test_parts.py benchmarks/test_alpaca_eval.py

compare: .venv/bench
	$(BIN)/python benchmarks/compare.py --shape smollm2,4m --rounds 3 --out docs/performance.md

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict fspo_bench methods/*.py baselines/*.py

data-cards: .venv/ready
	$(BIN)/python -m fspo_bench.evaluate.datacard tasks/roleplay tasks/elix_easy tasks/elix_hard tasks/reviews

judge-cards: .venv/ready
	$(BIN)/python -m fspo_bench.evaluate.judge_cards leaderboards/judges docs/judges.md

leaderboard: .venv/ready
	$(BIN)/fspo-bench leaderboard

# The micro policy keeps one core busy, so two go side by side; the last command finds every run done.
REPRODUCE = $(BIN)/fspo-bench reproduce --preset tiny
reproduce-ci: .venv/ready
	for seed in 0 1 2; do echo roleplay,ablation $$seed; echo elix,reviews $$seed; done | \
		OMP_NUM_THREADS=1 xargs -P 2 -L 1 sh -c '$(REPRODUCE) "$$0" --seeds "$$1"'
	$(REPRODUCE) roleplay,elix,reviews,ablation --seeds 0,1,2 --strict

micro: .venv/ready
	$(BIN)/python models/micro/build.py

docs: .venv/docs
	$(BIN)/mkdocs build --strict

judge: .venv/ready
	$(BIN)/python -m fspo_bench.judge.offline tasks/roleplay tasks/elix_easy tasks/elix_hard tasks/reviews

clean:
	rm -rf .venv

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

.venv/bench: .venv/ready
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	touch $@

.venv/browser: .venv/ready
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[browser]'
	touch $@

.venv/docs: .venv/ready
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	touch $@

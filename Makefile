PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MYPY := MYPYPATH=.link $(BIN)/mypy --explicit-package-bases --exclude '/(tests|examples|benchmarks)/' -p xpeng_world

.PHONY: demo test check lock clean

demo: $(STAMP)  ## a shipped policy drives in the learned world; writes demo/drive.mp4 and prints its scorecard
	$(BIN)/xpeng-world demo

test: check  ## everything that must hold before a change is merged
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(STAMP) .link/xpeng_world  ## format, lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MYPY)

lock: $(STAMP)  ## pin what is installed now
	$(BIN)/python .ci/lock.py > requirements.lock.new && mv requirements.lock.new requirements.lock && touch $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@echo "installing into $(VENV); this takes some minutes, once"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.link/xpeng_world:
	mkdir -p .link && ln -sfn .. $@

clean:
	rm -rf $(VENV) .link .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info

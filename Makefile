# Two commands do everything on a machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# The constraint keeps torch at one release; see constraints.txt.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test bench rig chaos soak fuzz pictures docs clean

demo: $(VENV)/.installed
	exec $(BIN)/glmbot demo

test: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/glmbot pull
	$(BIN)/pytest

# The engine beside its peers; each peer gets an environment of its own under .glmbot/bench. About 20 minutes.
bench: $(VENV)/.installed-dev
	$(BIN)/glmbot pull
	$(BIN)/python bench/suite.py
	$(BIN)/python bench/report.py

# Our platform servers held against clients that others wrote, our bot against another's server. About 5 minutes.
rig: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/glmbot pull
	$(BIN)/python tests/rig/run.py

# kill -9 at named points, faults of Redis and of real llama.cpp servers; counts what people see lost, doubled or out
# of order. About 15 minutes.
chaos: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/glmbot pull
	$(BIN)/python tests/chaos/run.py

# 10,000 inputs that nobody meant to send for each entry point; `make test` tries a hundred. About 15 minutes.
fuzz: $(VENV)/.installed-dev
	GLMBOT_FUZZ=10000 $(BIN)/pytest --durations=5 tests/fuzz

# Two hundred simulated people on three platforms for ten minutes: everyone is answered, memory stays flat.
soak: $(VENV)/.installed-dev
	$(BIN)/python tests/soak/run.py

# The pictures of the documentation, from the pages and the terminal as they are.
pictures: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/glmbot pull
	$(BIN)/python tests/pictures.py

# The documentation as a site, into .glmbot/site.
docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --quiet

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing glmbot into $(VENV) (a few minutes the first time) ..."
	$(PIP) --editable '.[all]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .glmbot

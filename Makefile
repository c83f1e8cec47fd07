# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
TWO_AT_A_TIME := -n 2 --dist worksteal # each with one thread

.PHONY: demo test test-oldest-peft clean

demo: .venv/installed
	$(BIN)/loralaw run studies/quickstart.yaml

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(TWO_AT_A_TIME)

# What touches PEFT, with the oldest version that the package declares; `make test` has the newest.
test-oldest-peft: .venv/installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/oldest-peft peft==0.20.0
	PYTHONPATH=.venv/oldest-peft $(BIN)/pytest $(TWO_AT_A_TIME) -W 'ignore:Could not find a config file' tests/tuners tests/models

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	touch $@

clean:
	rm -rf .venv

# The same words on a laptop and in CI.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test setup check unit integration conformance dockerpy vm docs build clean

demo: $(VENV)/.demo          ## install skiff into .venv and run a real container
	@./packaging/demo $(BIN)

test: setup                  ## install what the tests need, run everything
	./packaging/test-requirements
	$(MAKE) check
	$(MAKE) integration
	$(MAKE) conformance

setup: $(STAMP)              ## a virtual environment with skiff (editable) and its tools

check: setup                 ## format, lint, types, architecture, unit tests
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(MAKE) unit

unit: setup
	$(BIN)/python -m pytest tests/unit tests/contracts

integration: setup
	$(BIN)/python -m pytest -n 2 tests/integration

conformance: setup
	$(BIN)/python packaging/test-collection
	$(BIN)/python -m pytest -n 2 tests/conformance

dockerpy: setup              ## docker-py's own integration suite: CHECKOUT=a work tree of github.com/docker/docker-py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dockerpy]'
	$(BIN)/python -m tests.conformance.dockerpy "$(CHECKOUT)" $(WORDS)

vm: setup                    ## what depends on the kernel, on Linux 6.1 with cgroup v2 alone, then without overlayfs
	./packaging/test-requirements vm
	./tests/vm/boot env SKIFF_TEST_PATIENCE=8 $(BIN)/python -m pytest --timeout=900 \
	  tests/integration/test_cgroups.py tests/integration/test_limits.py tests/integration/test_overlays.py \
	  tests/integration/test_native_runtime.py tests/integration/test_egress.py \
	  tests/integration/test_network_sandboxes.py tests/integration/test_network_options.py
	WITHOUT=overlay ./tests/vm/boot env SKIFF_TEST_PATIENCE=8 $(BIN)/python -m pytest --timeout=900 \
	  -p no:cacheprovider tests/integration/test_poor_kernel.py

docs: setup                  ## regenerate docs/compatibility.md
	$(BIN)/python -m tests.conformance.compatibility > docs/compatibility.md

build: setup
	$(BIN)/python -m pip wheel --no-deps -w dist .

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml $(shell find src packaging -type f -not -name '*.pyc')
	$(BIN)/python -m pip install --quiet --disable-pip-version-check .
	@touch $@

$(STAMP): $(BIN)/python pyproject.toml $(shell find packaging -type f)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

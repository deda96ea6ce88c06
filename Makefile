# make train: set up and train MAML.   make test: set up and run every test.   make wheel: build dist/*.whl.
#   make runtime: the files of onnxruntime-web, from npm.   PYTHON=python3.12 make ... chooses another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test test-long lint format benchmark wheel runtime clean

train: $(VENV)/installed
	$(BIN)/python train.py algo=maml

# Two halves at a time, a file in one of them, in the order of tests/conftest.py; processes that tests start must not fight
# over the cores with their threads.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: $(VENV)/installed
	$(BIN)/python -m benchmarks

# What an older build left would go into the wheel.
wheel: $(VENV)/installed
	rm -rf build
	$(BIN)/python -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .
	rm -rf build

# The files of onnxruntime-web that the page needs, from npm as the lock pins them; INTO chooses another folder for them.
RUNTIME := src/metashot/page/runtime
INTO ?= $(RUNTIME)
runtime:
	@npm --version >/dev/null 2>&1 || { echo "npm is not installed: it comes with Node.js"; exit 2; }
	@set -e; from=$$(mktemp -d); trap 'rm -rf "$$from"' EXIT; \
	  cp $(RUNTIME)/package.json $(RUNTIME)/package-lock.json "$$from"; \
	  npm ci --prefix "$$from" --ignore-scripts --no-audit --no-fund; \
	  dist="$$from/node_modules/onnxruntime-web/dist"; \
	  (cd "$$dist"; sha256sum --check) <$(RUNTIME)/SHA256SUMS; \
	  for file in $$(awk '{print $$2}' $(RUNTIME)/SHA256SUMS); do cp "$$dist/$$file" "$(INTO)/$$file"; done

# Each stamp is written when everything behind it went well, so that a second call installs nothing.
$(VENV)/installed: requirements.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "metashot needs Python 3.11 or later, but $(PYTHON) is older: use make PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps wordllama==0.4.0.post1
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache

# With nothing but Python 3.11 or newer, pip, venv and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
IN_TWO := --numprocesses 2 --dist loadgroup
SLOW ?= slow
HOURS ?= 3
RECIPE ?= jobs/recipes/quickstart.yaml

# Compiled tests are kept: rewriting their assertions takes longer than most of them do.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-slow test-e2e bench-access bench-compression bench-dashboard bench-data bench-evaluation bench-layouts bench-pretraining bench-serving bench-sweeps bench-training soak lint check format clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Heliostat needs Python 3.11 or newer, found " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dashboard,dev]'
	touch $(READY)

# make demo KEEP=1 leaves the server up; ARGS="train.max_steps=8" changes the recipe; RECIPE=... takes another.
demo: $(READY)
	$(BIN)/heliostat run $(RECIPE) $(ARGS) $(if $(KEEP),--keep)

test: $(READY)
	$(BIN)/python -m pytest $(IN_TWO) -m "not slow and not e2e"

# make test-slow SLOW="slow and not lengthy" leaves out the journeys of several minutes.
test-slow: $(READY)
	$(BIN)/python -m pytest -m "$(SLOW)"

# What people do with the dashboard, by clicks, before a real Ray; needs Chromium (/usr/bin/chromium, or
# HELIOSTAT_CHROMIUM). HELIOSTAT_SCREENSHOTS=FOLDER keeps a picture of each page.
test-e2e: $(READY)
	$(BIN)/python -m pytest -s tests/e2e -m e2e

# The data stage against datatrove and data-juicer, each in an environment of its own; takes hours at full scale.
# make bench-data ARGS="--scale 0.05 --repeats 1 --only dedup" is a short one.
bench-data: $(READY)
	$(BIN)/python -m tests.bench.data_benchmark $(ARGS)

# The training loop against a bare DeepSpeed loop, and against LLaMA-Factory in an environment of its own; takes
# two hours. make bench-training ARGS="--repeats 1 --only overhead" is a short one.
bench-training: $(READY)
	$(BIN)/python -m tests.bench.training_benchmark $(ARGS)

# Every way to lay a model out over workers beside one process: the losses must be the same. Half an hour.
bench-layouts: $(READY)
	$(BIN)/python -m tests.bench.layouts_benchmark $(ARGS)

# What each kind of compression costs and saves on the quickstart's model; asks llama.cpp in an environment of
# its own. Half an hour. make bench-compression ARGS="--only int8 int4" is a short one.
bench-compression: $(READY)
	$(BIN)/python -m tests.bench.compression_benchmark $(ARGS)

# Scores beside lm-evaluation-harness's, in an environment of its own: the same model, rows and prompts. Five minutes.
bench-evaluation: $(READY)
	$(BIN)/python -m tests.bench.evaluation_parity $(ARGS)

# A small mixture of experts from nothing, against trigrams over the same tokens. Some ten minutes.
bench-pretraining: $(READY)
	$(BIN)/python -m tests.bench.pretraining_benchmark $(ARGS)

# Serving against vLLM's and llama.cpp's servers, each in an environment of its own, FastAPI with generate, a static
# batch and the bare engine; then the gateway, cache and filters alone. About an hour.
# make bench-serving ARGS="--only first_token guard --repeats 1" is a short one.
bench-serving: $(READY)
	$(BIN)/python -m tests.bench.serving_benchmark $(ARGS)

# A deployment under mixed load for hours while replicas die, versions change and keys go; no request may fail, nothing
# may grow. make soak HOURS=0.1667 is ten minutes; ARGS="--tiny" takes a tiny model.
soak: $(READY)
	$(BIN)/python -m tests.bench.serving_soak --hours $(HOURS) $(ARGS)

# Early stopping against the full grid, and two trials at once against one at a time. About an hour.
bench-sweeps: $(READY)
	$(BIN)/python -m tests.bench.sweeps_benchmark $(ARGS)

# What key, limits and policy cost a request, with 10,000 keys. Seconds.
bench-access: $(READY)
	$(BIN)/python -m tests.bench.access_benchmark $(ARGS)

# How long the dashboard's pages take to open in Chromium, with 1,000 runs of 1,000 steps. Some five minutes.
# make bench-dashboard ARGS="--only runs --repeats 3" is a short one.
bench-dashboard: $(READY)
	$(BIN)/python -m tests.bench.dashboard_benchmark $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/python -m pytest $(IN_TWO) --hypothesis-profile quick -m "not ray and not slow and not heavy and not e2e"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache

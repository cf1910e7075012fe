# Two commands: `make book` builds the book, `make test` runs the tests. Both create the environment first if needed.

PYTHON ?= python3
# The budget of the book's chapters, the scale of its stand-in, and the row that `make book` trains again on this machine: the
# one that takes the shortest time.
BUDGET ?= small
SCALE ?= 0.05
AGAIN ?= stage 1
UV_VERSION := 0.13.8
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help book site test test-all lint format lock bundle clean

help:
	@echo "make book    build the book (environment, images, one row retrained, notebooks, pages)"
	@echo "make site    build the book, a folder for a static host, and a release archive with the records"
	@echo "make test    run the tests;  make test-all  then run every notebook at budget smoke"
	@echo "make lint    check style, formatting and types;  make format  correct style and formatting"
	@echo "make lock    update requirements.lock after a change of pyproject.toml"
	@echo "make bundle  write an archive for a machine without network (HAVE=FILE: what \`pip list\` prints there)"
	@echo "make clean   remove what was built (keeps .venv and .cache)"

book: $(STAMP)
	$(BIN)/reid render market1501 --scale $(SCALE) --seed 0
	$(BIN)/reid train hamr/table10 --budget $(BUDGET) --row "$(AGAIN)" --again --threads 2
	$(BIN)/reid book

# build/site/ and build/reid-study-VERSION.zip. A release with a DOI has it in CITATION.cff.
site: book
	$(BIN)/python tools/site.py

# One worker on each core and one more (tests/conftest.py), with one thread each: workers with several threads would wait
# for each other. Bytecode is kept, or else each of many processes would compile the study, and each worker all tests.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto

# The tests of a file run in one worker, because they share what they have trained and rendered. tests/conftest.py puts the
# slowest files first.
test: $(STAMP)
	$(PYTEST) --dist loadfile --no-loadscope-reorder

# The tests that `make test` leaves out because they take long.
test-all: $(STAMP)
	$(PYTEST) --dist worksteal -m all

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps the pinned versions that still fit; add UPGRADE=--upgrade for the newest ones.
lock: $(STAMP)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-emit-index-url --no-header $(UPGRADE) pyproject.toml --extra book --extra batch --extra test \
		--output-file requirements.lock

# For a Python 3.12 with torch, torchvision and numpy on x86-64 Linux; see "A machine without network" in the book.
bundle: $(STAMP)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/python tools/bundle.py $(if $(HAVE),--have "$(HAVE)")

clean:
	rm -rf build book/_build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The first suitable Python is used: $(PYTHON), else python3.12 or python3.11 if installed.
$(STAMP): requirements.lock pyproject.toml
	@set -e; \
	fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; \
	if ! $(BIN)/python -c "$$fits" 2>/dev/null; then \
		found=; \
		for python in $(PYTHON) python3.12 python3.11; do \
			if $$python -c "$$fits" 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "The study needs Python 3.11 or 3.12; $(PYTHON) is $$($(PYTHON) -V 2>&1). Install one and" \
				"name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		echo "Creating .venv with $$found"; \
		$$found -m venv --clear .venv; \
	fi
	@# uv installs in seconds, pip in minutes. But uv does not read pip's settings, so where packages can be reached only
	@# with those, pip installs the same lock with the same hashes. Bytecode is compiled now, because otherwise each of
	@# many short processes would compile torch again where Python cannot write bytecode.
	@if $(BIN)/python -m pip install --quiet uv==$(UV_VERSION) && \
		$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock; then :; else \
		echo "uv could not install the packages; trying pip with the same lock (some minutes)"; \
		$(BIN)/python -m pip install --progress-bar off --require-hashes -r requirements.lock; \
	fi
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

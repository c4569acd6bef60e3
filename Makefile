# Two commands matter: `make demo` and `make test`. The rest is for maintainers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE_CLIENTS := $(VENV)/node-clients
NODE_PINS := $(addprefix tests/shells/clients_node/,package.json package-lock.json .npmrc)
LOCAL_MODEL := $(BIN)/counterfoil local install
MINUTES ?= 1

.PHONY: docs demo test lint types tests bench soak fuzz lock clean help node-clients langchain-matrix

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

demo: $(VENV)/.demo ## install, fetch the model, and watch the books agree
	@$(LOCAL_MODEL)
	@$(BIN)/counterfoil demo
	@echo '(. $(BIN)/activate puts counterfoil on your PATH.)'

test: lint types tests ## all that CI runs

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/mypy bench/gateway.py bench/importing.py fuzz/decoders.py fuzz/framings.py fuzz/run.py docs/generate.py

tests: $(VENV)/.dev
	@$(LOCAL_MODEL)
	@! command -v npm >/dev/null || $(MAKE) -s node-clients || echo "The Node.js clients could not be fetched."
	$(BIN)/pytest

bench: $(VENV)/.dev ## CPU per request and per chunk, beside nginx where it is there
	$(BIN)/python bench/gateway.py
	$(BIN)/python bench/importing.py

soak: $(VENV)/.dev ## kill the gateway for ten minutes and compare the books
	$(BIN)/pytest tests/shells/test_kill.py --kills 500

fuzz: $(VENV)/.dev ## each framing and each decoder against bytes that coverage chooses; MINUTES=1 for each
	$(BIN)/python fuzz/run.py --minutes $(MINUTES)

docs: $(VENV)/.dev ## write the generated parts of docs/ again
	$(BIN)/python docs/generate.py

lock: $(VENV)/.dev ## pin every dependency again, with hashes
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --python-version 3.11 pyproject.toml --extra local --group demo -o requirements/demo.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --python-version 3.11 pyproject.toml --extra local --extra langchain --group dev -c requirements/demo.txt -o requirements/dev.txt

node-clients: $(NODE_CLIENTS)/.installed ## fetch the Node.js clients that tests/shells/clients_node needs

$(NODE_CLIENTS)/.installed: $(NODE_PINS) | $(VENV)/bin/pip
	@mkdir -p $(NODE_CLIENTS)
	@cp $(NODE_PINS) $(NODE_CLIENTS)
	@cd $(NODE_CLIENTS) && npm ci --loglevel=error >/dev/null
	@touch $@

langchain-matrix: $(VENV)/.dev ## LangChain's tests with the oldest and the newest langchain-core
	PYTHON=$(PYTHON) tests/langchain/matrix.sh

clean:
	rm -rf $(VENV)

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Counterfoil needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.demo: $(VENV)/bin/pip requirements/demo.txt pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/demo.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/pip requirements/dev.txt pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

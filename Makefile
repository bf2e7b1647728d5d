# Every verb of the project; `make` alone lists them. They need Python 3.11 or newer, make and git:
# all other tools come from requirements.lock into .venv, and what serves from requirements-runtime.lock.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUNTIME := $(VENV)/.runtime
# Holds the generated *_pb2* files beside an __init__.py written by hand.
GENERATED := server/pullcord/v1
# The frames between the control process and its workers: internal, so no client generates them.
FRAMES := server/pullcord/link
FRESH := build/generated
UV := build/uv
# Makes targets in every client of clients/. A language whose toolchain is not here is skipped.
CLIENTS = $(BIN)/python -m tools.clients
LOCK = $(UV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(ARGS)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo demo-cluster fuzz test lowest apart conformance lint breaking format generate check-generated fresh docs site links workflows
.PHONY: bench soak chaos restarts turnover image lock clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## Make .venv with the pinned packages and Pullcord itself (PYTHON=python3.12 to choose)

# Into .venv come the packages of this lock, $(1), and Pullcord itself, by a pip with these options, $(2). Said is $(3).
# A sound .venv stays, with the Python it was made by; a missing or broken one is made anew.
define INTO_VENV
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Pullcord needs Python 3.11 or newer, and "$(PYTHON)" is not. Try: make $(MAKECMDGOALS) PYTHON=python3.12' >&2; \
		exit 1; }
	@echo 'Installing $(3) …'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement $(1)
	@$(BIN)/python -m pip install --quiet --no-deps $(2) --editable .
	@touch $@
	@echo 'Installed. For the command "pullcord": source $(BIN)/activate'
endef

# Most of it is the frameworks that the tests of the adapters run. Its hatchling builds, hence without the network.
$(INSTALLED): requirements.lock pyproject.toml
	$(call INTO_VENV,$<,--no-build-isolation,what developing takes into $(VENV) once: 1.4 GB in several minutes)

# What serves, and none of what developing takes: both locks pin the same versions, so that either may come first.
$(RUNTIME): requirements-runtime.lock pyproject.toml
	$(call INTO_VENV,$<,,what serving takes into $(VENV) once: 280 MB in one to five minutes)

demo: $(or $(wildcard $(INSTALLED)),$(RUNTIME)) ## See runs start, stream and stop, without a key
	@# Ctrl-C ends it, and is no error of the verb: 130 is then its exit code.
	@trap : INT; $(BIN)/python -m pullcord.demo $(ARGS) || test $$? -eq 130

demo-cluster: $(INSTALLED) ## See two replicas share a PostgreSQL, and one of them die (no Docker)
	@$(BIN)/python -m tools.demo_cluster

test: $(INSTALLED) ## Run the tests (ARGS="-k cancel" to choose)
	@$(BIN)/python -m pytest $(ARGS)

fuzz: $(INSTALLED) ## Send 100,000 requests of any kind, with and without credentials
	@$(BIN)/python -m tests.identity.fuzz $(ARGS)

# What a framework's old client leaves open is collected, loudly, when the tests have ended.
lowest: $(INSTALLED) ## Test the adapters with the oldest frameworks that they support (needs the network)
	$(PYTHON) -m venv --clear build/lowest
	$(PYTHON) -m venv $(UV) && $(UV)/bin/python -m pip install --quiet uv==0.13.8
	$(UV)/bin/uv pip install --quiet --python build/lowest/bin/python \
		--override tests/adapters/foreign/lowest.txt --editable '.[all,dev]' fastapi
	build/lowest/bin/python -m pytest -W ignore::pytest.PytestUnraisableExceptionWarning tests/adapters/foreign $(ARGS)

# In an environment of its own, $(1), with this extra, $(2), these tests, $(3). What a framework's own packages warn
# of is theirs.
define IN_ITS_OWN
	$(PYTHON) -m venv --clear build/apart/$(1)
	$(UV)/bin/uv pip install --quiet --python build/apart/$(1)/bin/python --editable '.[$(2),postgres]' \
		--requirement tests/adapters/foreign/apart/$(1).txt hypothesis psutil pytest pytest-asyncio pytest-timeout
	LITELLM_LOCAL_MODEL_COST_MAP=True KINDS=$(1) APPS=$(1)_app build/apart/$(1)/bin/python -m pytest \
		-W ignore::DeprecationWarning -W ignore::UserWarning $(3) $(ARGS)
endef

apart: $(INSTALLED) ## Test the frameworks that need an environment of their own (needs the network)
	$(PYTHON) -m venv $(UV) && $(UV)/bin/python -m pip install --quiet uv==0.13.8
	$(call IN_ITS_OWN,smolagents,serve,tests/adapters/foreign/apart/smolagents.py)
	$(call IN_ITS_OWN,llama_index_agents,llama-index,tests/adapters/foreign/apart/llama_index_agents.py \
		tests/adapters/foreign/test_contract.py tests/adapters/foreign/test_spans.py)
	$(call IN_ITS_OWN,google_adk,google-adk,tests/adapters/foreign/apart/google_adk.py \
		tests/adapters/foreign/test_contract.py tests/adapters/foreign/test_spans.py \
		tests/adapters/foreign/test_in_process.py tests/examples/test_apps.py)

conformance: $(INSTALLED) ## Play every scenario with every client (ARGS="--only go,rust" to choose)
	@$(BIN)/python -m tests.conformance $(ARGS)

lint: $(INSTALLED) breaking ## Check style, types, layers and the API's definition, in every language
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf lint
	@$(CLIENTS) lint

# The API as main has it is read through git alone, so that this works in a clone of any depth.
breaking: $(INSTALLED)
	@for main in refs/remotes/origin/main refs/heads/main; do \
		if git cat-file -e $$main:protos 2>/dev/null && git cat-file -e $$main:buf.yaml 2>/dev/null; then \
			echo "buf breaking --against $$main"; \
			git archive $$main buf.yaml protos | $(BIN)/buf breaking --against '-#format=tar'; \
			exit; \
		fi; \
	done; \
	echo 'buf breaking skipped: there is no main with protos to compare with'

format: $(INSTALLED) ## Mend what the linters can mend by themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write
	@$(CLIENTS) format

generate: fresh ## Make the code of the API from protos/, in every language
	rm -f $(GENERATED)/*_pb2*
	cp $(FRESH)/$(GENERATED)/*_pb2* $(GENERATED)/
	cp $(FRESH)/$(FRAMES)/*_pb2* $(FRAMES)/
	@$(CLIENTS) generate

check-generated: fresh ## Check that the generated code is what protos/ says
	@diff --recursive --brief --exclude=__init__.py --exclude=__pycache__ $(FRESH)/$(GENERATED) $(GENERATED) \
		|| { echo 'The generated code is not what protos/ says: run "make generate".' >&2; exit 1; }
	@for file in $(FRESH)/$(FRAMES)/*_pb2*; do cmp "$$file" $(FRAMES)/$$(basename "$$file") \
		|| { echo 'The frames are not what $(FRAMES)/frames.proto says: run "make generate".' >&2; exit 1; }; done
	@$(CLIENTS) check-generated

fresh: $(INSTALLED)
	@rm -rf $(FRESH)
	$(BIN)/buf generate --output $(FRESH)
	$(BIN)/python -m grpc_tools.protoc -Iserver -Iprotos --python_out=$(FRESH)/server --pyi_out=$(FRESH)/server \
		$(FRAMES)/frames.proto

docs: $(INSTALLED) ## Make the tables and the diagram of docs/ from the code
	$(BIN)/python -m tools.render_docs

site: $(INSTALLED) ## Build the documentation as a site into build/site; a warning is an error
	@$(BIN)/python -m tools.site

links: $(INSTALLED) ## Try the documentation's links to other sites (needs the network)
	@$(BIN)/python -m tools.site linkcheck

workflows: ## Check the workflows of .github with actionlint (needs Go)
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 -color .github/workflows/*.yml

bench: $(INSTALLED) ## Measure, as ratios to a baseline of the same run
	@$(BIN)/python -m tests.bench $(ARGS)

soak: $(INSTALLED) ## Play many runs over workers that die, and show what is left (ARGS="--runs 100000")
	@$(BIN)/python -m tests.soak $(ARGS)

restarts: $(INSTALLED) ## Kill a server under load, again and again, and see that it forgets nothing (ARGS="--kills 50 --seed 1")
	@$(BIN)/python -m tests.restarts $(ARGS)

chaos: $(INSTALLED) ## Kill, freeze and cut off replicas and their PostgreSQL, or workers --elsewhere (ARGS="--seconds 600 --seed 7")
	@$(BIN)/python -m tests.chaos $(ARGS)

turnover: $(INSTALLED) ## Let runs come and go for an hour, and see that no store grows (ARGS="--minutes 60 --rate 20 --seed 1")
	@$(BIN)/python -m tests.turnover $(ARGS)

image: ## Build the container image
	docker build --tag pullcord .

lock: ## Pin the packages anew (ARGS=--upgrade for the newest versions)
	$(PYTHON) -m venv $(UV)
	$(UV)/bin/python -m pip install --quiet uv==0.13.8
	$(LOCK) --extra all --extra dev --extra docs --output-file requirements.lock pyproject.toml
	$(LOCK) --extra image --constraints requirements.lock --output-file requirements-runtime.lock pyproject.toml

clean: ## Remove what the other verbs have made
	@$(PYTHON) -m tools.clients clean
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find server tests -name __pycache__ -prune -exec rm -rf {} +

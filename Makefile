# Set-up and checks. "make help" lists the targets; nothing here needs more than a Debian, Ubuntu or Raspberry Pi OS
# machine with a network the first time.

VENV := .venv
BIN  := $(VENV)/bin
# Debian keeps mosquitto where only root looks.
WITH := PATH="$$PATH:/usr/sbin:/sbin"
DONE := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-homeassistant outages torture soak bench check contract format wheel clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(DONE)  ## a .venv with anr-watch and what its tests need; again only when pyproject.toml changes
	@echo "ready: $(BIN)/anr-watch"

$(DONE): pyproject.toml deploy/setup.sh
	@sh deploy/setup.sh venv $(VENV)
	@touch $@

demo: $(DONE)  ## simulated cameras lose their network and get their footage back; needs nothing of yours
	@sh deploy/setup.sh mosquitto || echo "demo: going on without a broker" >&2
	@$(WITH) $(BIN)/anr-watch demo

test: $(DONE)  ## all tests, with a real broker and real processes on 127.0.0.1
	@sh deploy/setup.sh mosquitto
	@# Four processes on a busy machine can starve one another: what failed among them is judged alone, once, in the open.
	@$(WITH) sh -c '$(BIN)/python -m pytest -n 4 --dist worksteal </dev/null; result=$$?; [ $$result -eq 1 ] || exit $$result; \
	    echo "make test: the tests that failed, again, one at a time"; \
	    $(BIN)/python -m pytest --last-failed --last-failed-no-failures none </dev/null'

outages: $(DONE)  ## 300 random outages: every picture presented once, by PyAV and the ffmpeg command
	@OUTAGES=all $(BIN)/python -m pytest -n 2 -rP --no-header tests/system/test_outages.py </dev/null | grep -E "outages:|FAILED|passed|failed"

build/homeassistant-venv/.installed: tests/homeassistant/requirements.txt deploy/setup.sh
	@mkdir -p build
	@sh deploy/setup.sh homeassistant build/homeassistant-venv
	@touch $@

NEWEST := build/homeassistant-new-venv/.installed
$(NEWEST):
	@mkdir -p build
	@sh deploy/setup.sh homeassistant-new build/homeassistant-new-venv && touch $@ || \
	    echo "test-homeassistant: going on with Home Assistant 2024.3.3 alone" >&2

test-homeassistant: $(DONE) build/homeassistant-venv/.installed $(NEWEST)  ## discovery against the real Home Assistant: 2024.3.3 and the newest that runs here
	@sh deploy/setup.sh mosquitto
	@$(WITH) $(BIN)/python -m pytest tests/homeassistant </dev/null

torture: export TORTURE_S ?= 600
torture: $(DONE)  ## bad days for TORTURE_S seconds (default 600): kills, faults, nonsense; a line of JSON last
	@sh deploy/setup.sh mosquitto
	@mkdir -p build
	@$(WITH) sh -c '$(BIN)/python -m pytest -n 2 --dist worksteal -rA --no-header tests/torture </dev/null >build/torture.log 2>&1'; \
	    result=$$?; grep -v '^{"kills"' build/torture.log | tail -n 40; grep '^{"kills"' build/torture.log; exit $$result

soak: export SOAK_S ?= 1800
soak: $(DONE)  ## hundreds of outages on 32 cameras for SOAK_S seconds (default 1800): does anything grow; JSON line last
	@sh deploy/setup.sh mosquitto
	@$(WITH) $(BIN)/python -m tests.soak </dev/null

bench: $(DONE)  ## measure against the limits and the polling loop; BENCH=name[,name] for some, BENCH=--list for names
	@sh deploy/setup.sh mosquitto
	@sh deploy/setup.sh ffmpeg || echo "bench: going on without ffmpeg, the peer of some figures" >&2
	@$(WITH) $(BIN)/python -m tests.bench $(BENCH) </dev/null

check: $(DONE)  ## form, lint, types, import directions, config.toml against the code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/unit/test_imports.py tests/unit/test_config_example.py tests/unit/test_config.py </dev/null

contract: $(DONE)  ## write the schemas of all messages and docs/asyncapi.json anew from the code
	@$(BIN)/python -c 'from pathlib import Path; from anr_watch.mqtt.asyncapi import written; \
	    [(path.parent.mkdir(exist_ok=True), path.write_text(text)) for path, text in written(Path()).items()]'

format: $(DONE)  ## put the sources into form
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

wheel: $(DONE)  ## dist/*.whl and dist/*.tar.gz
	@$(BIN)/python -m build --outdir dist .

clean:  ## remove the .venv and everything made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find anr_watch tests -name __pycache__ -type d -prune -exec rm -rf {} +

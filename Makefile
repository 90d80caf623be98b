# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
RUN     = $(VENV)/bin/python
DEMO   ?= runs/demo
SEED ?= 0
BACKBONES ?= runs/backbones

# On a CPU, XLA takes its temporaries from malloc at every step. Told to keep what is freed, glibc
# hands the same pages out again; without this a step of the demo takes about 1.4 times as long.
KEEP_MEMORY = MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1000000000000

.PHONY: help demo demo-seeds backbones test test-parity test-slow test-full-size gpu-check lint format goldens clean
.DEFAULT_GOAL := help

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-parity: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -e .[test,parity]
	@touch $@

demo: $(VENV)/installed  ## Build the video world, train, evaluate, and write runs/demo/report.html.
	test -d $(DEMO)/start || $(KEEP_MEMORY) $(RUN) launch/convert.py --config=configs/demo.py \
	    --x_encoder=@boxed --predictor=@boxed --y_encoder=@boxed --align --output=$(DEMO)/start
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/demo.py:captions \
	    --workdir=$(DEMO)/captions --config.seed=$(SEED) --config.init_from=$(DEMO)/start:params
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/demo.py --workdir=$(DEMO) \
	    --config.seed=$(SEED) --config.init_from=$(DEMO)/captions:params
	test -d $(DEMO)/y_decoder_start || $(KEEP_MEMORY) $(RUN) launch/convert.py \
	    --config=configs/y_decoder.py --y_decoder=@boxed --output=$(DEMO)/y_decoder_start
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/y_decoder.py \
	    --workdir=$(DEMO)/y_decoder_text --config.seed=$(SEED) \
	    --config.init_from=$(DEMO):y_encoder,$(DEMO)/y_decoder_start:y_decoder
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/y_decoder.py:predicted \
	    --workdir=$(DEMO)/y_decoder --config.seed=$(SEED) \
	    --config.init_from=$(DEMO):vljepa,$(DEMO)/y_decoder_text:y_decoder
	$(KEEP_MEMORY) $(RUN) launch/eval.py --config=configs/eval/world.py --checkpoint=$(DEMO)

demo-seeds:  ## The demo with three seeds; mean and spread in runs/demo_seeds/report.json.
	for seed in 0 1 2; do \
	    $(MAKE) demo DEMO=runs/demo_seeds/$$seed SEED=$$seed || exit 1; done
	$(RUN) launch/spread.py --output=runs/demo_seeds \
	    --runs=runs/demo_seeds/0,runs/demo_seeds/1,runs/demo_seeds/2

backbones: $(VENV)/installed  ## Pretrain the backbones in vljepa_jax/backbones anew (hours).
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/language_model.py:write \
	    --workdir=$(BACKBONES)/predictor_write
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/language_model.py \
	    --workdir=$(BACKBONES)/predictor --config.init_from=$(BACKBONES)/predictor_write:params
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/x_encoder.py:single \
	    --workdir=$(BACKBONES)/x_encoder_single
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/x_encoder.py \
	    --workdir=$(BACKBONES)/x_encoder_labels \
	    --config.init_from=$(BACKBONES)/x_encoder_single:params
	for part in x_encoder_labels predictor; do \
	    $(RUN) launch/convert.py --checkpoint=$(BACKBONES)/$$part \
	        --export=$(BACKBONES)/from/$$part || exit 1; done
	$(RUN) launch/convert.py --config=configs/x_encoder.py:read \
	    --x_encoder=$(BACKBONES)/from/x_encoder_labels/x_encoder \
	    --predictor=$(BACKBONES)/from/predictor/predictor --output=$(BACKBONES)/from/read
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/x_encoder.py:read \
	    --workdir=$(BACKBONES)/x_encoder --config.init_from=$(BACKBONES)/from/read:params
	$(KEEP_MEMORY) $(RUN) launch/train.py --config=configs/y_encoder.py \
	    --workdir=$(BACKBONES)/y_encoder
	for part in x_encoder predictor y_encoder; do \
	    $(RUN) launch/convert.py --checkpoint=$(BACKBONES)/$$part --dtype=bfloat16 \
	        --export=$(BACKBONES)/exported/$$part || exit 1; \
	    cp -r $(BACKBONES)/exported/$$part/$$part vljepa_jax/backbones/; \
	    cp $(BACKBONES)/exported/$$part/config.json vljepa_jax/backbones/$$part/recipe.json; done

test: $(VENV)/installed  ## Run the suite (no torch needed).
	$(RUN) -m pytest -n auto --dist loadfile --durations=15 -m "not parity and not slow"

test-parity: $(VENV)/installed-parity  ## Compare live with torch and transformers.
	$(RUN) -m pytest -n auto --dist loadfile -m "parity and not slow"

test-slow: $(VENV)/installed-parity  ## Full published sizes, more meshes and interruptions (20 minutes, 10 GB).
	XLA_FLAGS= $(RUN) -m pytest -m "slow and not full_size" -s  # compiled in full, unlike the others

test-full-size: $(VENV)/installed  ## Two steps of the 1B model (24 GiB of memory, 30 GB of disk).
	XLA_FLAGS= $(KEEP_MEMORY) $(RUN) -m pytest -m full_size -s

gpu-check: $(VENV)/installed-parity  ## Measure on one NVIDIA GPU what no plan tells (8 minutes; writes docs/gpu.json).
	$(RUN) -m pip install --quiet --disable-pip-version-check "jax[cuda12]>=0.10"
	$(RUN) benchmarks/gpu_check.py

lint: $(VENV)/installed  ## Check style.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/installed  ## Apply the style.
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

goldens: $(VENV)/installed-parity  ## Make the committed reference outputs anew (needs torch).
	$(RUN) tests/goldens/make_goldens.py

clean:  ## Remove the environment and everything generated.
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache build *.egg-info

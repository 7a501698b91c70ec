# make demo    real scenes -> image sets -> A2-MAE -> PyTorch weights, in demo/
# make test    everything CI runs: lint, types, tests
# make test-harness    exported models in timm, transformers, TerraTorch, TorchGeo, torchgeo-bench and ONNX Runtime; several GB in .venv-harness
# make test PYTHON=python3.12    the same on another Python; each target makes .venv and installs what it needs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
BASE := $(VENV)/.base-$(VERSION)
DEV := $(VENV)/.dev-$(VERSION)
TORCH_CPU := https://download.pytorch.org/whl/cpu
WORKERS ?= 2
HARNESS_PYTHON ?= python3.12
HARNESS_VENV ?= .venv-harness
HARNESS_INSTALLED := $(HARNESS_VENV)/.installed
HARNESS_LIBRARIES := torch torchvision timm transformers safetensors onnxruntime terratorch torchgeo torchgeo-bench pytest
HARNESS_FOLDERS := harness/folders

export JAX_PLATFORMS ?= cpu

.PHONY: demo test lint types unit test-harness clean

demo: $(BASE)
	$(BIN)/python examples/demo.py --out=demo

test: lint types unit

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV)
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then $(BIN)/pyright; else \
	  echo "no PyTorch here: the files that import it are not type-checked"; \
	  $(BIN)/pyright $$(git ls-files 'rsfm_jax/*.py' 'configs/*.py' 'examples/*.py' 'benchmarks/*.py' | grep -v -e ^rsfm_jax/torch/ -e ^rsfm_jax/export/ -e ^rsfm_jax/evaluate/ -e ^benchmarks/parity_mae.py -e ^benchmarks/step.py); fi

unit: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) --dist=loadfile

# Two environments: JAX writes the folders in one, the libraries load them in the other, which has no JAX.
test-harness: $(DEV) $(HARNESS_INSTALLED)
	rm -rf $(HARNESS_FOLDERS)
	$(BIN)/python -m harness.make_folders --out=$(HARNESS_FOLDERS)
	$(HARNESS_VENV)/bin/python -m pytest -c harness/pytest.ini harness

$(HARNESS_INSTALLED): harness/constraints.txt
	test -e $(HARNESS_VENV)/bin/python || $(HARNESS_PYTHON) -m venv $(HARNESS_VENV)
	$(HARNESS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c harness/constraints.txt $(HARNESS_LIBRARIES)
	touch $(HARNESS_INSTALLED)

# PyTorch comes as its CPU wheel or not at all. Where there is none for this Python, what needs it is skipped, and says so.
$(BASE): pyproject.toml constraints.txt
	test -e $(BASE) || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) -e .
	@$(PIP) -e '.[torch]' >$(VENV)/torch.log 2>&1 \
	  || $(PIP) --retries 1 --extra-index-url $(TORCH_CPU) -e '.[torch]' >>$(VENV)/torch.log 2>&1 \
	  || (grep -q 'No matching distribution\|ResolutionImpossible' $(VENV)/torch.log || { cat $(VENV)/torch.log; exit 1; })
	@$(BIN)/python -c 'import torch' 2>/dev/null || echo "no CPU wheel of PyTorch for Python $(VERSION): what needs it is skipped"
	touch $(BASE)

$(DEV): $(BASE)
	$(PIP) -e '.[dev,benchmarks]'
	@! $(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) -e '.[export,evaluate]'
	touch $(DEV)

clean:
	rm -rf $(VENV) .venv-harness $(HARNESS_FOLDERS) demo

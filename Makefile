# Two commands do everything on a machine with Python 3.11 and make: `make demo` (PORT=8081 for another port than
# 8080) and `make test`.
PYTHON ?= python3.11
VENV := .venv
TOOLS := .glmbot/tools
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Each release by its hash, from locks/. Only torch has none there, since its build is the operator's choice: the
# constraint keeps its release.
LOCKED := $(PIP) --no-deps --require-hashes --requirement
TORCH := $(PIP) --constraint constraints.txt torch
THIS := $(PIP) --no-deps --no-build-isolation --editable .

# What only torch for NVIDIA cards needs, and brings along by itself.
CUDA := triton cuda-bindings cuda-pathfinder cuda-toolkit $(foreach part,cublas cuda-cupti cuda-nvrtc cuda-runtime \
  cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx,nvidia-$(part))
COMPILE := $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --constraint constraints.txt --custom-compile-command 'make lock' --no-emit-package torch \
  $(foreach part,$(CUDA),--no-emit-package $(part))

.PHONY: demo test bench models rig chaos soak fuzz pictures docs lock audit clean

demo: $(VENV)/.installed
	exec $(BIN)/glmbot demo $(if $(PORT),--port $(PORT))

test: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/glmbot pull
	# Three also on two cores, since tests wait for a third of their time. As they lie in the folders: by default the
	# files of few tests, which take the longest, would come last, when the others may have nothing else left to do.
	# One thread in each: those of torch would wait for each other's processors by keeping them busy.
	# What is compiled is kept, also where an environment forbids it: for the other workers, and for the hundred
	# processes that tests start, each of which would compile all of it again.
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

# The engine beside its peers, with AVX2 and with the best that this processor has; each peer gets an environment of
# its own under .glmbot/bench. About 15 minutes for each instruction set.
bench: $(VENV)/.installed-dev
	$(BIN)/glmbot pull
	$(BIN)/python bench/suite.py
	$(BIN)/python bench/report.py

# Every causal architecture of Transformers, tiny and random, against its own code; writes docs/architectures.md. What
# was examined is kept in .glmbot/sweep. About an hour on one core.
models: $(VENV)/.installed-dev
	$(BIN)/python tests/sweep/run.py

# Our platform servers held against clients that others wrote, our bot against another's server. About 5 minutes.
rig: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/glmbot pull
	$(BIN)/python tests/rig/run.py

# kill -9 at named points, faults of Redis, failovers of Sentinel and of a cluster, model servers that die; counts what
# people see lost, doubled or out of order. About 17 minutes.
chaos: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/glmbot pull
	$(BIN)/python tests/chaos/run.py

# 10,000 inputs that nobody meant to send for each entry point, and 200 and more of the worst values in the fields of
# each; `make test` tries fewer.
fuzz: $(VENV)/.installed-dev
	GLMBOT_FUZZ=10000 $(BIN)/pytest --numprocesses 2 --dist load --durations=5 tests/fuzz tests/robustness

# Two hundred simulated people on three platforms for ten minutes: everyone is answered, memory stays flat.
soak: $(VENV)/.installed-dev
	$(BIN)/python tests/soak/run.py

# The pictures of the documentation, from the pages and the terminal as they are.
pictures: $(VENV)/.installed-dev
	sh tests/install_programs.sh
	$(BIN)/glmbot pull
	$(BIN)/python tests/pictures.py

# The documentation as a site, into .glmbot/site.
docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --quiet

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# With g++ the package's build compiles the kernels for the instruction sets of this processor: hatch_build.py.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt locks/run.txt hatch_build.py $(wildcard glmbot/native/*.cpp glmbot/native/*.h)
	@echo "Installing glmbot into $(VENV) (a few minutes the first time) ..."
	$(LOCKED) locks/run.txt
	$(TORCH)
	$(THIS)
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed locks/dev.txt
	$(LOCKED) locks/dev.txt
	touch $@

# New releases into locks/, for every platform and Python from 3.11 on.
lock: $(TOOLS)/.installed
	rm -f locks/*.txt
	$(COMPILE) pyproject.toml locks/build.in --extra all --output-file locks/run.txt
	$(COMPILE) pyproject.toml locks/build.in --extra all --extra dev --output-file locks/dev.txt
	$(COMPILE) locks/tools.in --output-file locks/tools.txt

# Known weaknesses of what is locked; needs the network. What could not be looked up is an error.
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --requirement locks/run.txt

$(TOOLS)/.installed: locks/tools.in
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(if $(wildcard locks/tools.txt),locks/tools.txt,locks/tools.in)
	touch $@

clean:
	rm -rf $(VENV) .glmbot

#!/bin/sh
# The lowest versions of the direct dependencies that pyproject.toml allows, in an environment of their
# own, and the tests that run on them. BACKEND is jax, tensorflow or torch; TESTS says which tests.
set -eu
cd "$(dirname "$0")/.."
backend=${BACKEND:-jax}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/tools"
"$place/tools/bin/pip" install -q uv
"$place/tools/bin/uv" venv -q --python "${PYTHON:-python3}" "$place/venv"
# as in the Makefile: on Linux the TensorFlow without CUDA, of the same version
tensorflow=$(sed -n 's/^tensorflow = \["\(.*\)"\]$/\1/p' pyproject.toml)
case "$(uname -sm)" in "Linux x86_64") tensorflow=tensorflow-cpu${tensorflow#tensorflow} ;; esac
extras=train
[ "$backend" = tensorflow ] || extras=$extras,$backend
"$place/tools/bin/uv" pip install -q --python "$place/venv/bin/python" \
  --resolution lowest-direct "$tensorflow" -e ".[$extras]" "pytest>=8"
"$place/tools/bin/uv" pip list -q --python "$place/venv/bin/python" | grep -iE \
  "^(keras|numpy|h5py|safetensors|huggingface|requests|filelock|tqdm|rich|pillow|scikit-learn|matplotlib|tensorboard|tensorflow|jax|torch) "
# The first things that a user does: load and save weights, download, classify, optimise, train.
export KERAS_BACKEND="$backend" OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3
export XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
tests=${TESTS:-tests/test_public.py tests/test_saving.py tests/test_preprocessing.py
  tests/test_optimization.py tests/test_classifier.py tests/test_download.py tests/test_cli_train.py}
# shellcheck disable=SC2086 # several files
"$place/venv/bin/python" -m pytest -q -p no:cacheprovider -m "not slow" $tests
"$place/venv/bin/python" -m training.train --config digits --smoke --output "$place/records"

#!/bin/sh
# Runs the suite on the three backends, each in its own processes. Arguments go to pytest.
# All three run even if one fails; the exit status says whether any did.
set -u
cd "$(dirname "$0")/.."
status=0
# JAX compiles for longer than it computes here; processes with equal programs share the work.
JAX_COMPILATION_CACHE_DIR=$(mktemp -d)
export JAX_COMPILATION_CACHE_DIR
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=0
# And XLA, here and within TensorFlow, need not optimise what runs once on small sizes.
export XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
# Each process has one core: threads of PyTorch would wait for one another.
export OMP_NUM_THREADS=1
trap 'rm -rf "$JAX_COMPILATION_CACHE_DIR"' EXIT
for backend in ${BACKENDS:-jax tensorflow torch}; do
  echo "== KERAS_BACKEND=$backend"
  KERAS_BACKEND=$backend "${VENV:-.venv}/bin/python" -m pytest -q -n "${WORKERS:-2}" "$@" || status=1
done
exit $status

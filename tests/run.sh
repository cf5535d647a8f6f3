#!/bin/sh
# Runs the suite on the three backends, each in its own processes. Arguments go to pytest.
# All three run even if one fails; the exit status says whether any did.
set -u
cd "$(dirname "$0")/.."
status=0
for backend in jax tensorflow torch; do
  echo "== KERAS_BACKEND=$backend"
  KERAS_BACKEND=$backend "${VENV:-.venv}/bin/python" -m pytest -q -n "${WORKERS:-2}" "$@" || status=1
done
exit $status

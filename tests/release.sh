#!/bin/sh
# release.sh PYTHON WHEEL PACKAGE... : the main jobs by the wheel, in an empty environment and folder
# outside the clone. Packages are the backend of KERAS_BACKEND and what reads the data.
set -eu
python=$1 wheel=$2
shift 2
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$python" -m venv "$place/venv"
"$place/venv/bin/pip" install -q "$@" "$wheel[train]"
unset PYTHONPATH
export KERAS_CONVNEXT_HOME="$place/home" KERAS_CONVNEXT_OFFLINE=1 TF_CPP_MIN_LOG_LEVEL=3
PATH=$place/venv/bin:$PATH
cd "$place"
python - <<'PHOTOS'
import pathlib
import numpy, PIL.Image

draw = numpy.random.default_rng(0)
for name, level in (("day", 128), ("night", 0)):
    folder = pathlib.Path("photos", name)
    folder.mkdir(parents=True)
    for number in range(20):
        pixels = draw.integers(level, level + 128, (72, 96, 3), dtype="uint8")
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
PHOTOS
keras-convnext --version
keras-convnext --help >help.txt
keras-convnext list --family v2 >list.txt
keras-convnext train --list
keras-convnext check photos
keras-convnext train photos --epochs=3
run=$(ls -d records/*_folder)
keras-convnext evaluate "$run"
keras-convnext predict --model "$run" photos/day/0.png
python -c "import keras_convnext, sys; sys.exit(keras_convnext.__file__.startswith('$OLDPWD/'))"

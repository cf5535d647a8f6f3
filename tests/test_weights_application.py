"""`weights/`: known answers on small sets in the layouts of TensorFlow Datasets, and the proofs.

The classifier of most tests knows 1000 colours, one per class, and takes the nearest to an image's
mean colour, so that what it predicts can be said beforehand.
"""

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import VARIANTS, ConvNeXt
from keras_convnext.preprocessing import EvalTransform
from keras_convnext.pretrained import find
from keras_convnext.pretrained.download import sha256_of
from keras_convnext.pretrained.saving import save_weights
from tests import hub_server
from tests.backends import compiles_long, on_one_backend, randomise
from training.evaluate import imagenet, robustness
from training.evaluate import published as measuring
from training.evaluate import results as measured
from training.evaluate.imagenet import DataError, parts
from weights import convert, evaluate, table, verify

SIZE = 32
STEP = 24  # between neighbouring colours
GRID = np.stack(np.meshgrid(*[20 + STEP * np.arange(10)] * 3, indexing="ij"), -1).reshape(-1, 3)
ROOT = Path(__file__).parents[1]


# ---------------------------------------------------------------- images with known answers


def jpeg(colour):
    buffer = io.BytesIO()
    pixels = np.full((40, 52, 3), colour, "uint8")
    Image.fromarray(pixels).save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


def neighbour(label):
    """The class with the next colour on the red axis, towards the middle."""
    return label + 100 if label < 500 else label - 100


def first(label):
    """Pixels of which the class of `label` is the first prediction."""
    return jpeg(GRID[label])


def second(label):
    """Pixels of which the neighbour is the first prediction, and `label` the second."""
    return jpeg(GRID[neighbour(label)] + (GRID[label] - GRID[neighbour(label)]) // 3)


def far(label):
    """Pixels of which `label` is none of the first five predictions."""
    return jpeg(GRID[(label + 555) % 1000])


def colour_model():
    """Returns a model whose logits are largest for the class of the nearest mean colour."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(len(GRID))(x))
    model.layers[-1].set_weights([2.0 * GRID.T, -np.square(GRID).sum(1)])
    return model


def subject(name="colours"):
    transform = EvalTransform(SIZE, crop_pct=0.875)
    return measuring.Candidate(name, transform, colour_model)


def figures(part, **options):
    result = measuring.measure(colour_model(), subject(), part, **options)
    return result["images"], *result["hits"]


def put(folder, images):
    for name, content in images.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Path(folder)


# ---------------------------------------------------------------- sets as TFDS prepares them


@pytest.fixture(scope="module")
def tfds():
    return pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def wnids(tfds):
    return imagenet.wnids()


@pytest.fixture(scope="module")
def data_dir(tfds, tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


def archive(path, images):
    with tarfile.open(path, "w") as tar:
        for name, content in images.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def prepare(tfds, name, data_dir, *, served=None, manual=None, splits=None):
    """TFDS's own builder makes the set, of local files in place of its downloads."""
    builder = tfds.builder(name, data_dir=data_dir)
    manager = tfds.download.DownloadManager
    if splits is not None:
        builder._split_generators = lambda *_: splits
    with (
        mock.patch.object(manager, "download", lambda self, url: served),
        mock.patch.object(manager, "download_and_extract", lambda self, url: served),
    ):
        config = tfds.download.DownloadConfig(manual_dir=manual)
        builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


def validation_images(tfds, kinds):
    """The first images of the validation set, by the names and labels that it has in truth."""
    path = tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")
    order = {wnid: label for label, wnid in enumerate(imagenet.wnids())}
    labels = [order[wnid] for wnid in path.read_text().split()[: len(kinds)]]
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, len(kinds) + 1)]
    images = {name: kind(label) for name, kind, label in zip(names, kinds, labels, strict=True)}
    return images, labels


def test_imagenet2012(tfds, data_dir, tmp_path):
    images, _ = validation_images(tfds, [first] * 4 + [second] * 2 + [far])
    archive(tmp_path / "ILSVRC2012_img_val.tar", images)
    prepare(tfds, "imagenet2012", data_dir, manual=tmp_path)
    (part,) = parts("imagenet2012", data_dir)
    assert (part.data, part.version, part.examples) == ("imagenet2012", "5.1.0", 7)
    assert not part.is_whole
    for batch_size in (64, 7, 3):  # alone, full, and with a last batch of one
        assert figures(part, batch_size=batch_size) == (7, 4, 6)
    assert figures(part, form="fast") == (7, 4, 6)
    result = measuring.measure(colour_model(), subject(), part)
    assert (result["top1"], result["top5"]) == (400 / 7, 600 / 7)


def test_imagenet_v2(tfds, data_dir, tmp_path):
    # folders are numbers: in the order of text, 10 and 100 would come before 2
    labels = (0, 2, 10, 100, 999)
    kinds = dict(zip(labels, (first, first, first, second, far), strict=True))
    for config, kind in (("matched-frequency", None), ("threshold-0.7", far)):
        top = f"imagenetv2-{config.replace('-0', '0')}-format-val"
        images = {f"{top}/{n}/a{n}.jpeg": (kind or kinds[n])(n) for n in labels}
        put(tmp_path, images)
        prepare(tfds, f"imagenet_v2/{config}", data_dir, served=str(tmp_path))
    (part,) = parts("imagenet_v2", data_dir)
    assert part.data == "imagenet_v2/matched-frequency"
    assert figures(part) == (5, 3, 4)
    assert figures(parts("imagenet_v2/threshold-0.7", data_dir)[0]) == (5, 0, 0)
    with pytest.raises(DataError, match="threshold-0.7"):
        parts("imagenet_v2/threshold", data_dir)
    folder = tmp_path / "imagenetv2-matched-frequency-format-val"
    (part,) = parts("imagenet_v2", folder)  # as its authors distribute it
    assert (part.data, figures(part)) == ("imagenet_v2/matched-frequency", (5, 3, 4))


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_the_classifier_chooses_among_the_classes_of_the_set(tfds, wnids, data_dir, tmp_path, name):
    # 50 shows its neighbour 150, which the set does not have: right. 51 shows its neighbour 151,
    # which it has: wrong. 45 shows 600, to which the six other classes are nearer.
    shown = {50: second, 51: second, 151: first, 700: first, 45: far, 855: first, 856: first}
    top = name.replace("_", "-")
    images = {f"{top}/{wnids[n]}/{n}.jpg": kind(n) for n, kind in shown.items()}
    folder = put(tmp_path, images) / top
    prepare(tfds, name, data_dir, served=str(tmp_path))
    for where in (data_dir, folder):
        (part,) = parts(name, where)
        assert part.subset() == tuple(sorted(shown))
        result = measuring.measure(colour_model(), subject(), part)
        assert (result["images"], result["classes"], result["hits"]) == (7, 7, [5, 6])
    unrestricted = parts(str(folder))[0]  # 50 is wrong then
    assert figures(unrestricted) == (7, 4, 6)


def test_imagenet_sketch(tfds, wnids, data_dir, tmp_path):
    images = {f"sketch/{wnids[n]}/s{n}.JPEG": kind(n) for n, kind in {7: first, 8: far}.items()}
    prepare(tfds, "imagenet_sketch", data_dir, served=str(archive(tmp_path / "s.tar", images)))
    assert figures(parts("imagenet_sketch", data_dir)[0]) == (2, 1, 1)


def test_real_labels(tfds, data_dir, tmp_path):
    images, labels = validation_images(tfds, [first, first, first, second, far])
    one, two, three, four, five = labels
    # the old label is not among the new; two labels, the second is right; none; the second
    # prediction is one of them; nothing
    real = [[(one + 300) % 1000], [(two + 300) % 1000, two], [], [four], [five]]
    archive(tmp_path / "ILSVRC2012_img_val.tar", images)
    file = tmp_path / "real.json"
    file.write_text(json.dumps(real))
    prepare(tfds, "imagenet2012_real", data_dir, manual=tmp_path, served=str(file))
    (part,) = parts("imagenet2012_real", data_dir)
    assert part.examples == 5
    assert figures(part, batch_size=2) == (4, 1, 2)  # the one without label is left out


@compiles_long
def test_imagenet_c_and_its_mean_error(tfds, data_dir, tmp_path):
    """Wrong are, of 4 images: one per severity above 1 in gaussian noise, and all in fog."""
    labels = (3, 250, 640, 999)
    for corruption in imagenet.CORRUPTIONS:
        for level in imagenet.SEVERITIES:
            wrong = {"gaussian_noise": level - 1, "fog": 4}.get(corruption, 0)
            examples = [
                (str(n), corrupted(label, is_wrong=n < wrong)) for n, label in enumerate(labels)
            ]
            name = f"imagenet2012_corrupted/{corruption}_{level}"
            prepare(tfds, name, data_dir, splits={"validation": iter(examples)})
    data = parts("imagenet2012_corrupted", data_dir)
    assert len(data) == 75 and all(part.is_cropped for part in data)
    file = tmp_path / "results.json"
    few, faults = measuring.evaluate([subject()], data[:-1], file, report=lambda line: None)
    assert not faults
    assert all("mce" not in line for line in robustness.summary(few))
    results, _ = measuring.evaluate([subject()], data, file, report=lambda line: None)
    (line,) = robustness.summary(results)
    # the mean error over the severities is 50 % and 100 %; AlexNet's are 88.6428 and 81.9324
    assert line["ce"]["gaussian_noise"] == pytest.approx(56.406, abs=1e-3)
    assert line["ce"]["fog"] == pytest.approx(122.052, abs=1e-3)
    assert line["mce"] == pytest.approx((56.406 + 122.052) / 15, abs=1e-3)
    assert line["mean_error"] == pytest.approx(150 / 15)
    robustness.print_summary([line])


def corrupted(label, is_wrong):
    """A crop whose border says something else: a second crop would take the inner colour."""
    colour = GRID[(label + 555) % 1000] if is_wrong else GRID[label]
    image = np.full((224, 224, 3), colour, "uint8")
    return {"image": image, "label": label, "file_name": f"{label}.JPEG"}


def test_crops_are_not_cropped_again():
    part = mock.Mock(is_cropped=True)
    transform = subject().transform_for(part)
    image = np.zeros((224, 224, 3), "uint8")
    image[:3] = 255  # does not reach into the centre crop of 7/8
    assert transform(image)[0].min() > 50
    assert subject().transform(image).max() == 0


def test_alexnet_itself_has_a_mean_corruption_error_of_100():
    errors = {
        f"{c}_{level}": robustness.ALEXNET_ERRORS[c] + level - 3
        for c in imagenet.CORRUPTIONS
        for level in imagenet.SEVERITIES
    }
    ce, mce = robustness.corruption_errors(errors)
    assert mce == pytest.approx(100) and ce == pytest.approx(dict.fromkeys(ce, 100))
    errors.pop("fog_3")
    assert robustness.corruption_errors(errors) is None


# ---------------------------------------------------------------- data that is not right


def test_an_undecodable_image_is_named(tfds, wnids, data_dir, tmp_path):
    broken = first(4)[:-300]
    images = {f"sketch/{wnids[4]}/good.JPEG": first(4), f"sketch/{wnids[4]}/bad.JPEG": broken}
    place = tmp_path / "tfds"
    tar = archive(tmp_path / "s.tar", images)
    prepare(tfds, "imagenet_sketch", place, served=str(tar))
    for form in measuring.FORMS:
        with pytest.raises(DataError, match=r"imagenet_sketch: image '\S*bad.JPEG'"):
            figures(parts("imagenet_sketch", place)[0], form=form)


def test_damaged_or_missing_sets(tfds, wnids, data_dir, tmp_path):
    images = {f"sketch/{wnids[n]}/{n}.JPEG": first(n) for n in range(8)}
    served = str(archive(tmp_path / "s.tar", images))
    folder = prepare(tfds, "imagenet_sketch", tmp_path, served=served)
    (record,) = folder.glob("*.tfrecord*")
    record.write_bytes(record.read_bytes()[:-100])
    with pytest.raises(DataError, match="after . of 8 examples"):
        figures(parts("imagenet_sketch", tmp_path)[0])
    (folder / "features.json").write_text("{")
    with pytest.raises(DataError, match="unreadable"):
        parts("imagenet_sketch", tmp_path)
    with pytest.raises(DataError, match="tfds build imagenet_r"):
        parts("imagenet_r", tmp_path)
    with pytest.raises(DataError, match="imagenet_sketch"):
        parts("imagenet_sketsh", tmp_path)


def test_the_newest_prepared_version_is_read(tmp_path):
    for version in ("2.0.0", "10.0.0", "9.1.0", "incomplete.X_11.0.0"):
        put(tmp_path / version, {"dataset_info.json": b""})
    (tmp_path / "12.0.0").mkdir()  # without a description it is not prepared
    assert imagenet._newest_version(tmp_path).name == "10.0.0"


def test_folders(tmp_path, wnids):
    images = {f"{wnids[n]}/x.JPEG": first(n) for n in (998, 3)} | {"notes.txt": b"no class"}
    assert figures(parts(str(put(tmp_path / "wnids", images)))[0]) == (2, 2, 2)
    images = {f"{name}/{name}.png": first(0) for name in ("cat", "dog")}
    (part,) = parts(str(put(tmp_path / "names", images)))
    with pytest.raises(DataError, match="2 classes.*1000 outputs"):
        figures(part)
    images = {f"{number}/x.png": first(0) for number in (1, 1000)}
    with pytest.raises(DataError, match="label 1000"):
        figures(parts(str(put(tmp_path / "numbers", images)))[0])
    with pytest.raises(DataError, match="no class folders"):
        parts(str(tmp_path / "names" / "cat"))
    with pytest.raises(DataError, match="n99999999"):
        parts(str(put(tmp_path / "strange", {"n99999999/x.png": first(0)})))


def test_outputs_must_be_finite(tmp_path):
    (part,) = parts(str(put(tmp_path, {f"{n}/x.png": first(n) for n in (0, 1)})))
    model = colour_model()
    model.layers[-1].set_weights([np.full((3, 1000), np.nan), np.zeros(1000)])
    with pytest.raises(FloatingPointError, match="NaN"):
        measuring.measure(model, subject(), part)


# ---------------------------------------------------------------- the file of results


@pytest.fixture
def two_folders(tmp_path):
    names = [f"{n:04}/x.jpg" for n in range(3)]
    kinds = {"a": (first, first, second), "b": (first, far, far)}
    for folder, several in kinds.items():
        images = {name: kind(n) for n, (name, kind) in enumerate(zip(names, several, strict=True))}
        put(tmp_path / folder, images)
    return [parts(str(tmp_path / folder))[0] for folder in kinds]


def test_what_is_measured_is_not_measured_again(two_folders, tmp_path):
    file = tmp_path / "results.json"
    bad = measuring.Candidate(
        "bad", subject().transform, mock.Mock(side_effect=FileNotFoundError("gone"))
    )
    lines = []
    results, faults = measuring.evaluate([bad, subject()], two_folders, file, report=lines.append)
    assert [(r["weights"], r["hits"]) for r in results] == [
        ("colours", [2, 3]),
        ("colours", [1, 1]),
    ]
    assert faults == ["bad: gone"]
    never = measuring.Candidate(
        "colours", subject().transform, mock.Mock(side_effect=AssertionError)
    )
    again, _ = measuring.evaluate([never], two_folders, file, report=lines.append)
    assert again == results
    other_size = measuring.Candidate(
        "colours", EvalTransform(64), mock.Mock(side_effect=OSError("no"))
    )
    with pytest.raises(OSError, match="no"):  # another transform is another measurement
        measuring.evaluate([other_size], two_folders, file, report=lines.append)
    assert measured.load_results(file) == results


def test_a_foreign_file_is_not_replaced(two_folders, tmp_path):
    file = tmp_path / "results.json"
    for content in ("[1]", "{", '{"results": [{"weights": 1}]}'):
        file.write_text(content)
        with pytest.raises(ValueError, match="results.json"):
            measuring.evaluate([subject()], two_folders, file)
        assert file.read_text() == content


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A random ConvNeXt of 3 classes, 8 images, and what it says about them."""
    folder = tmp_path_factory.mktemp("noise")
    model = randomise(ConvNeXt("test_convnext2", classes=3, input_shape=(96, 96, 3)), seed=1)
    model.save_weights(folder / "model.weights.h5")
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (9, 9, 3), "uint8") for _ in range(8)]
    images = [np.asarray(Image.fromarray(i).resize((120, 100))) for i in images]
    transform = EvalTransform(96, crop_pct=0.875)
    return folder, images, model.predict_on_batch(transform.batch(images)).argmax(1)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def labelled(noise, wrong):
    """{path: image} with the predicted class as folder, but for the first `wrong` images."""
    _, images, said = noise
    labels = [(label + (n < wrong)) % 3 for n, label in enumerate(said)]
    return {f"class{label}/{n}.png": png(images[n]) for n, label in enumerate(labels)} | {
        # so that all three exist
        f"class{n}/note.txt": b""
        for n in range(3)
    }


def command(noise, results, *data):
    path = str(noise[0] / "model.weights.h5")
    options = ["--variant", "test_convnext2", "--size", "96", "--batch_size", "3"]
    return [path, *options, "--results", str(results), "--data", *map(str, data)]


def test_command_line(noise, tmp_path, capsys):
    folder = put(tmp_path / "set", labelled(noise, wrong=3))
    arguments = command(noise, tmp_path / "r.json", folder)
    assert evaluate.main([*arguments, "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)["results"]
    assert (line["top1"], line["top5"], line["images"]) == (62.5, 100, 8)
    assert line["sha256"] == sha256_of(arguments[0])
    assert evaluate.main(arguments) == 0
    output = capsys.readouterr()
    assert "62.500" in output.out and "measured already" in output.err
    bad = folder / "class0" / "zz.png"
    bad.write_bytes(b"no image")
    assert evaluate.main(arguments) == 1
    assert "zz.png" in capsys.readouterr().err
    assert len(measured.load_results(tmp_path / "r.json")) == 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["convnext_tiny.fb_in22k"], "imagenet22k"),
        (["convnext_tiny.nothing"], "Nearest"),
        (["convnext_small.fb_in1k", "--crop_pct", "0.9"], "--variant"),
        (["convnext_base.fb_in1k_384", "--test_size"], "no other test size"),
        (["convnext_base.fb_in1k_384", "--batch_size", "0"], "positive"),
        (["missing.h5", "--variant", "convnext_tiny"], "missing.h5"),
    ],
)
def test_wrong_command_lines(arguments, said, tmp_path, capsys):
    place = ["--data", str(tmp_path), "--results", str(tmp_path / "r.json")]
    with pytest.raises(SystemExit) as exit:
        evaluate.main([*arguments, *place])
    assert exit.value.code == 2 and said in capsys.readouterr().err


def test_rows_are_measured_with_their_own_transform():
    row = find("convnext_base.fb_in22k_ft_in1k_384")
    assert measuring.subject_of_row(row).transform == EvalTransform(384, 1.0, "squash")
    row = find("convnext_tiny.tv_in1k")
    expected = EvalTransform(224, resize_size=236, interpolation="bilinear")
    assert measuring.subject_of_row(row).transform == expected
    row = find("convnext_tiny.fb_in1k")
    assert measuring.subject_of_row(row, use_test_size=True).transform == EvalTransform(288, 1.0)


@on_one_backend
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file whose reading never ends")
def test_a_killed_run_goes_on_where_it_was(noise, tmp_path, capsys):
    """The first image of the second set is a pipe that nobody writes: there it is killed."""
    done = put(tmp_path / "one", labelled(noise, wrong=2))
    left = put(tmp_path / "two", labelled(noise, wrong=5))
    pipe = left / "class0" / "0000.png"
    os.mkfifo(pipe)
    results = tmp_path / "results.json"
    arguments = command(noise, results, done, left)
    run = [sys.executable, "-m", "weights.evaluate", *arguments]
    with subprocess.Popen(run, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 100
            while not results.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert process.poll() is None and results.exists()
        finally:
            process.send_signal(signal.SIGKILL)
    (kept,) = measured.load_results(results)
    assert kept["top1"] == 75
    pipe.unlink()
    assert evaluate.main([*arguments, "--json"]) == 0
    figures = [line["top1"] for line in json.loads(capsys.readouterr().out)["results"]]
    assert figures == [75, 37.5]
    assert kept in measured.load_results(results)


# ---------------------------------------------------------------- verification and conversion


@pytest.fixture
def caches(tmp_path, monkeypatch):
    for variable in list(os.environ):
        if variable.startswith(("HF_", "HUGGINGFACE_", "KERAS_CONVNEXT_", "TRANSFORMERS_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    return tmp_path


CLASSES = 10
SMALL = {"depths": [1], "dims": [8], "kernel_sizes": [7]}  # what rows may override


def published(folder, name):
    """Returns (bytes of a safetensors file in timm's names, number of parameters, the model)."""
    variant = dataclasses.replace(VARIANTS[name], **SMALL)
    shape = (None, None, 3)
    model = ConvNeXt(variant, classes=CLASSES, input_shape=shape, classifier_activation=None)
    randomise(model)
    save_weights(model, variant, folder / f"{name}.safetensors", "timm")
    return (folder / f"{name}.safetensors").read_bytes(), model.count_params(), model


def row_of(variant, params, *sources, **fields):
    row = {
        "variant": variant,
        "tag": "x",
        "family": "timm",
        "id": variant,
        "classes": CLASSES,
        "label_set": None,
        "params": params,
        "size": 64,
        "crop_pct": 0.875,
        "resize_mode": "shortest",
        "interpolation": "bicubic",
        "licence": "free",
        "overrides": SMALL,
        "accuracy": [],
        "sources": list(sources),
    }
    return {**row, **fields}


def registry_file(path, *rows):
    licences = {"free": {"name": "MIT", "url": "https://example.com"}}
    path.write_text(json.dumps({"licences": licences, "references": {}, "rows": rows}))
    return path


@pytest.mark.filterwarnings("ignore:No sha256 is published")
def test_verify(caches, monkeypatch, capsys):
    """A good row, one with a good second source, and rows with another hash, logits, size."""
    photo = caches / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), "uint8")
    photo.write_bytes(png(pixels))
    bodies, counts, models = zip(
        *(published(caches, name) for name in ("test_convnext", "test_convnext2")), strict=True
    )
    squashed = EvalTransform(64, resize="squash")(photo)[None]
    logits = models[0].predict_on_batch(squashed)[0, :3].astype(float).tolist()
    commit, digest = hub_server.COMMIT, sha256_of(caches / "test_convnext.safetensors")
    with hub_server.hub() as hub, hub_server.plain() as host:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        hub.files[f"/o/good/resolve/{commit}/model.safetensors"] = bodies[0]
        host.files["/second.safetensors"] = bodies[1]
        good = {"repo": "o/good", "file": "model.safetensors", "revision": commit}
        gone = {**good, "repo": "o/gone"}
        second = {"url": f"{host.address}/second.safetensors"}
        file = registry_file(
            caches / "registry.json",
            row_of("test_convnext", counts[0], {**good, "sha256": digest}, first_logits=logits),
            row_of("test_convnext2", counts[1], gone, second),
            row_of("test_convnext", counts[0], {**good, "sha256": "0" * 64}, tag="hash"),
            row_of("test_convnext", counts[0], good, tag="logits", first_logits=[9, 9, 9]),
            row_of("test_convnext", counts[0] + 1, good, tag="params"),
        )
        report = caches / "report" / "r.json"
        arguments = ["--registry", str(file), "--report", str(report), "--image", str(photo)]
        assert verify.main([*arguments, "--delete"]) == 1
        found = {(e["name"], e["source"]): e for e in json.loads(report.read_text())["sources"]}
        errors = {name.rpartition(".")[2]: entry["error"] for (name, _), entry in found.items()}
        assert len(found) == 6
        first_row = found["test_convnext.x", f"hf://o/good@{commit}/model.safetensors"]
        assert first_row["error"] is None and "64 x 64" in first_row["logits"]
        assert (first_row["sha256"], first_row["bytes"]) == (digest, len(bodies[0]))
        assert found["test_convnext2.x", second["url"]]["error"] is None
        assert (
            "404" in found["test_convnext2.x", f"hf://o/gone@{commit}/model.safetensors"]["error"]
        )
        assert "sha256" in errors["hash"]
        assert "first logits" in errors["logits"]
        assert "parameters" in errors["params"]
        assert "2 of 5 rows passed" in capsys.readouterr().out
        text = report.with_suffix(".md").read_text()
        assert digest in text and "2 files passed, 4 failed" in text
        # nothing is left, but for the records of first use
        kept = [p.name for p in caches.joinpath("home").rglob("*") if p.is_file()]
        assert not [name for name in kept if name.endswith((".safetensors", ".part"))]
        assert not (caches / "hf" / "hub").exists()

        # once more: what has passed makes no request, what has failed is tried again
        hub.requests.clear()
        host.requests.clear()
        hub.files[f"/o/gone/resolve/{commit}/model.safetensors"] = bodies[1]
        assert verify.main([*arguments, "test_convnext.x", "test_convnext2.x"]) == 0
        assert {r.path for r in hub.requests} == {f"/o/gone/resolve/{commit}/model.safetensors"}
        assert not host.requests
        assert verify.main([*arguments, "test_convnext2.x", "--all_sources"]) == 0
    with pytest.raises(SystemExit, match="2"):
        verify.main([*arguments, "test_convnext3.x"])


@pytest.mark.filterwarnings("ignore:No sha256 is published")
def test_convert(caches):
    from keras_convnext.pretrained import registry

    body, count, model = published(caches, "test_convnext2")
    with hub_server.plain() as host:
        host.files["/w.safetensors"] = body
        source = {"url": f"{host.address}/w.safetensors"}
        file = registry_file(caches / "r.json", row_of("test_convnext2", count, source))
        (row,) = registry.parse(file.read_text())
        for suffix in convert.SUFFIXES:
            path = convert.convert(row, caches, suffix)
            assert path.name == f"test_convnext2.x{suffix}"
            again = ConvNeXt(row.architecture(), weights=path)
            for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        requests, time_of_writing = len(host.requests), path.stat().st_mtime_ns
        assert convert.convert(row, caches, ".safetensors").stat().st_mtime_ns == time_of_writing
        assert len(host.requests) == requests


# ---------------------------------------------------------------- the table


def test_readme_is_the_generated_one():
    text = table.README.read_text(encoding="utf-8")
    assert text == table.render(text, table.measured()), "python -m weights.table --write"


def test_measured_figures_enter_the_table(tmp_path):
    file = tmp_path / "results.json"
    row = find("convnext_tiny.fb_in1k")
    transform = dataclasses.asdict(row.transform())
    result = {
        "weights": row.name,
        "sha256": None,
        "data": "imagenet2012",
        "version": "5.1.0",
        "examples": 50_000,
        "transform": transform,
        "form": "exact",
        "is_whole": True,
        "images": 50_000,
        "classes": 1000,
        "hits": [41_050, 47_925],
        "top1": 82.1,
        "top5": 95.85,
    }
    measured.add_result(file, result)
    text = table.README.read_text(encoding="utf-8")
    new = table.render(text, table.measured(file))
    (line,) = [line for line in new.splitlines() if "82.10 / 95.85" in line]
    assert "`convnext_tiny.fb_in1k`" in line and "| 224 |" in line
    for field, value in (("is_whole", False), ("form", "fast"), ("sha256", "0" * 64)):
        other = tmp_path / f"{field}.json"
        measured.add_result(other, {**result, field: value})
        assert not table.measured(other)
    with pytest.raises(ValueError, match="accuracy"):
        table.render("no markers", {})

"""The report of a trained model: numbers, pictures and logs."""

import csv
import dataclasses
import json
import struct
import sys

import keras
import numpy as np
import pytest

from tests.backends import on_one_backend
from training.data import stream
from training.data.arrays import array_split
from training.evaluate.assessment import Assessment, Example, assess
from training.evaluate.places import best_places, places_of
from training.experiments.classification import digits
from training.run import pictures
from training.run.logs import open_logs
from training.run.loop import Progress

ROWS = [
    {"epoch": 1, "loss": 2.0, "accuracy": 0.25, "val_loss": 1.5, "val_accuracy": 0.5, "seconds": 3},
    {
        "epoch": 2,
        "loss": 1.0,
        "accuracy": 0.5,
        "val_loss": 1.25,
        "val_accuracy": 0.75,
        "seconds": 3,
    },
]


def softmax_model(classes):
    """A few random weights on images of 3 x 2 grey pixels."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((3, 2, 1)),
        keras.layers.Rescaling(1 / 64),
        keras.layers.Flatten(),
        keras.layers.Dense(classes, activation="softmax"),
    ]
    return keras.Sequential(layers)


def images_and_labels(number, classes):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (number, 3, 2, 1), dtype="uint8")
    return images, random.integers(0, classes, number)


def table_of(confidences, label=0, classes=3):
    """Probabilities whose highest, of class 1, are these."""
    probabilities = np.zeros((len(confidences), classes), "float32")
    probabilities[:, 1] = confidences
    probabilities[:, label] += 1 - probabilities.sum(1)
    return probabilities


class Table(keras.Model):
    """Gives for an image that is filled with `i` row `i` of a table."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def call(self, images):
        places = keras.ops.cast(images[:, 0, 0, 0], "int32")
        return keras.ops.take(keras.ops.convert_to_tensor(self.rows), places, axis=0)


def assess_table(rows, labels, keep=40):
    """`assess` on images 0, 1, ... that fill batches of 4, the last with images of weight 0."""
    size = -(-len(rows) // 4) * 4
    images = np.zeros((size, 2, 2, 1), "float32") + np.arange(size)[:, None, None, None]
    images[len(rows) :] = 0
    weights = (np.arange(size) < len(rows)).astype("float32")
    labels = np.pad(labels, (0, size - len(rows)))
    batches = zip(*(np.split(part, size // 4) for part in (images, labels, weights)), strict=True)
    return assess(Table(np.asarray(rows, "float32")).predict_on_batch, batches, len(rows[0]), keep)


@pytest.mark.parametrize("classes", [3, 8])
def test_the_numbers_are_those_of_numpy(classes):
    """On a split that fills no whole number of batches, through the pipeline of a run."""
    model, (images, labels) = softmax_model(classes), images_and_labels(50, classes)
    found = assess(
        model.predict_on_batch,
        stream.evaluation_batches(array_split("s", images, labels), None, 16),
        classes,
    )
    probabilities = model.predict(images.astype("float32"), verbose=0).astype("float64")
    order = np.argsort(-probabilities, -1)
    predicted, own = order[:, 0], probabilities[np.arange(50), labels]
    confusion = np.zeros((classes, classes), "int64")
    for true, guess in zip(labels, predicted, strict=True):
        confusion[true, guess] += 1
    wrong = np.flatnonzero(predicted != labels)
    assert (found.images, len(found.mistakes)) == (50, min(40, len(wrong)))
    np.testing.assert_array_equal(found.counts, confusion.sum(1))
    np.testing.assert_array_equal(found.predictions, confusion.sum(0))
    np.testing.assert_array_equal(found.hits, confusion.diagonal())
    assert found.top1 == (predicted == labels).mean()
    top5 = (order[:, :5] == labels[:, None]).any(-1).mean()
    assert found.top5 == (top5 if classes == 8 else None)
    assert found.loss == pytest.approx(-np.log(np.clip(own, 1e-7, 1)).mean(), rel=1e-5)
    assert found.confusion.dtype == "int64"
    np.testing.assert_array_equal(found.confusion, confusion)
    assert {e.place for e in found.mistakes} <= set(wrong)
    for example in (*found.mistakes, *found.right):
        np.testing.assert_array_equal(example.image, images[example.place])
        assert example.label == labels[example.place]
        assert example.predicted == predicted[example.place]
        assert example.confidence == pytest.approx(probabilities[example.place].max(), rel=1e-5)


def test_the_surest_mistakes_are_kept():
    rows = table_of([0.6, 0.9, 0.7, 0.6, 0.8, 0.95, 0.55])
    found = assess_table(rows, np.array([0, 0, 0, 0, 0, 1, 0]), keep=4)
    assert [example.place for example in found.mistakes] == [1, 4, 2, 0]
    assert [example.place for example in found.right] == [5]


def test_right_examples_are_drawn_from_all():
    labels = np.ones(30, "int64")
    labels[[3, 17]] = 0
    found = assess_table(table_of([0.9] * 30), labels, keep=8)
    assert [example.place for example in found.mistakes] == [3, 17]
    places = {example.place for example in found.right}
    assert len(places) == 8 and not {3, 17} & places
    assert max(places) > 9  # not the first ones


def test_the_size_of_batches_has_no_say():
    model, (images, labels) = softmax_model(8), images_and_labels(50, 8)
    split = array_split("s", images, labels)
    batches = (stream.evaluation_batches(split, None, size) for size in (7, 50))
    one, other = (assess(model.predict_on_batch, part, 8, keep=45) for part in batches)
    assert one.right and other.right
    for kind in ("mistakes", "right"):
        places = [[example.place for example in getattr(found, kind)] for found in (one, other)]
        assert places[0] == places[1]


def test_padding_does_not_count():
    rows = table_of(
        [0.9] * 5
    )  # the padding shows image 0 with the label 0: a mistake, if it counted
    found = assess_table(rows, np.ones(5, "int64"))
    assert (found.images, found.mistakes, found.top1, found.confusion.sum()) == (5, (), 1.0, 5)


def test_a_probability_of_zero_has_a_finite_loss():
    found = assess_table([[1.0, 0.0]], np.array([1]))
    assert 10 < found.loss < 100


@on_one_backend
def test_among_equals_the_lower_class_comes_first():
    found = assess_table(np.full((8, 8), 1 / 8), np.arange(8))
    assert (found.top1, found.top5) == (1 / 8, 5 / 8)


@on_one_backend
def test_the_place_of_a_class_is_that_of_a_sort():
    scores = np.random.default_rng(0).integers(0, 6, (40, 9)).astype("float32")  # many are equal
    labels = np.arange(40) % 9
    order = np.argsort(-scores, 1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order, labels, strict=True)]
    np.testing.assert_array_equal(places_of(scores, labels), expected)
    several = [(label, (label + 4) % 9) for label in labels]
    subset = (0, 2, 3, 7)
    chosen = [[c for c in row if c in subset] for row in order]
    expected = [
        min([row.index(label) for label in right if label in row], default=4)
        for row, right in zip(chosen, several, strict=True)
    ]
    np.testing.assert_array_equal(best_places(scores, several, subset), expected)


@on_one_backend
def test_many_classes_have_no_confusion():
    row = np.zeros((1, 2001))
    row[0, 7] = 1
    assert assess_table(row, np.array([7])).confusion is None
    assert assess_table(row[:, :2000], np.array([7])).confusion.shape == (2000, 2000)


@on_one_backend
@pytest.mark.parametrize(
    ("row", "message"),
    [([-1.0, 2.0], "softmax"), ([3.0, 2.0], "softmax"), ([np.nan, 1.0], "NaN")],
)
def test_what_are_no_probabilities_is_an_error(row, message):
    with pytest.raises(ValueError, match=message):
        assess_table([row], np.array([0]))


@on_one_backend
def test_labels_classes_and_images_that_do_not_fit_are_errors():
    with pytest.raises(ValueError, match="no image"):
        assess(softmax_model(3).predict_on_batch, [], 3)
    with pytest.raises(ValueError, match="from 0 to 1, received 2"):
        assess_table([[1.0, 0.0]], np.array([2]))
    images, labels = images_and_labels(4, 3)
    with pytest.raises(ValueError, match="4 classes"):
        assess(softmax_model(3).predict_on_batch, [(images, labels, np.ones(4))], 4)


@on_one_backend
def test_recall_and_precision_of_absent_classes_are_not_defined():
    found = assess_table(table_of([0.9, 0.9, 0.9]), np.array([1, 1, 0]))
    np.testing.assert_array_equal(found.recall, [0, 1, np.nan])
    np.testing.assert_allclose(found.precision, [np.nan, 2 / 3, np.nan])


def png_size(path):
    """Returns (width, height) in pixels, from the header."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", content[16:24])


def assessment(classes, channels=3, wrong=3, right=7):
    random = np.random.default_rng(0)

    def example(place, is_wrong):
        image = random.integers(0, 256, (6, 5, channels), dtype="uint8")
        label = place % classes
        return Example(image, label, (label + is_wrong) % classes, 0.87, place)

    confusion = random.integers(0, 20, (classes, classes))
    return Assessment(
        images=100,
        top1=0.97,
        top5=None,
        loss=0.5,
        counts=confusion.sum(1),
        predictions=confusion.sum(0),
        hits=confusion.diagonal(),
        confusion=confusion,
        mistakes=tuple(example(place, True) for place in range(wrong)),
        right=tuple(example(place, False) for place in range(right)),
    )


@on_one_backend
@pytest.mark.parametrize("epochs", [1, 2])
def test_curves_are_drawn(tmp_path, epochs):
    pictures.curves(ROWS[:epochs], tmp_path / "curves.png", average=epochs == 2)
    assert png_size(tmp_path / "curves.png") == (1200, 480)
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


@on_one_backend
@pytest.mark.parametrize("epochs", [1, 2])
def test_epochs_on_the_axis_are_whole_numbers(monkeypatch, epochs):
    figures = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: figures.append(figure))
    pictures.curves(ROWS[:epochs], "curves.png")
    ticks = np.concatenate([axis.get_xticks() for axis in figures[0].axes])
    assert (ticks == ticks.round()).all() and 1 in ticks


@on_one_backend
@pytest.mark.parametrize("classes", [2, 12, 41])
def test_confusions_are_drawn(tmp_path, classes):
    path = tmp_path / "confusion.png"
    names = [f"a class with $ and _ and the number {number}" for number in range(classes)]
    pictures.confusion(assessment(classes), names, path)
    assert min(png_size(path)) > 240


@on_one_backend
def test_a_class_without_images_has_no_colour(tmp_path):
    found = assessment(3)
    found.confusion[1] = 0
    pictures.confusion(found, "abc", tmp_path / "confusion.png")
    png_size(tmp_path / "confusion.png")


@on_one_backend
@pytest.mark.parametrize(
    ("channels", "wrong", "right", "rows"), [(3, 3, 7, 2), (1, 1, 0, 1), (4, 0, 40, 5)]
)
def test_mistakes_are_drawn(tmp_path, channels, wrong, right, rows):
    path = tmp_path / "mistakes.png"
    found = assessment(3, channels, wrong, right)
    pictures.mistakes(found, ("cat", "dog of a very long kind", "$x_1$"), path)
    assert png_size(path)[1] == pytest.approx(120 * (2.2 * rows + 0.5), abs=1)


@on_one_backend
def test_a_failed_picture_leaves_the_old_one(tmp_path):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        pictures.curves([{"epoch": 1}], path)
    assert path.read_bytes() == b"old"


def config(**fields):
    return dataclasses.replace(digits.config(), **fields)


def log_epochs(folder, rows, **fields):
    with open_logs(folder, config(**fields)) as log:
        for number in range(1, len(rows) + 1):
            log(Progress(epoch=number, history=rows[:number]))


@on_one_backend
def test_the_tables_hold_the_history(tmp_path):
    log_epochs(tmp_path, ROWS, tensorboard=False)
    with open(tmp_path / "log.csv", newline="") as file:
        table = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert table == ROWS
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert {file.name for file in tmp_path.iterdir()} == {"log.csv", "log.jsonl"}


@on_one_backend
def test_half_a_table_is_replaced(tmp_path):
    """What an interruption or an older program left is no part of the log."""
    (tmp_path / "log.csv").write_text("epoch,lo")
    (tmp_path / "log.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    log_epochs(tmp_path, ROWS[:1], tensorboard=False)
    assert (tmp_path / "log.csv").read_text().splitlines() == [
        "epoch,loss,accuracy,val_loss,val_accuracy,seconds",
        "1,2.0,0.25,1.5,0.5,3",
    ]
    assert json.loads((tmp_path / "log.jsonl").read_text()) == ROWS[0]


def test_tensorboard_gets_a_scalar_per_column(tmp_path):
    import tensorflow as tf

    log_epochs(tmp_path, ROWS[:1], tensorboard=True)
    with open_logs(tmp_path, config(tensorboard=True)) as log:  # as a resumed run does
        log(Progress(epoch=2, history=ROWS))
    found = {}
    for part in ("train", "validation"):
        (file,) = (tmp_path / "tensorboard" / part).iterdir()
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                key = part, value.tag, event.step
                assert key not in found
                found[key] = float(tf.make_ndarray(value.tensor))
    columns = {
        ("train", "epoch_loss"): "loss",
        ("train", "epoch_accuracy"): "accuracy",
        ("train", "epoch_seconds"): "seconds",
        ("validation", "epoch_loss"): "val_loss",
        ("validation", "epoch_accuracy"): "val_accuracy",
    }
    assert found == {(*tag, row["epoch"]): row[key] for row in ROWS for tag, key in columns.items()}


@on_one_backend
def test_others_of_a_distributed_run_write_nothing(tmp_path):
    with open_logs(tmp_path, config(wandb="project"), writes=False) as log:
        log(Progress(epoch=1, history=ROWS[:1]))
    assert not list(tmp_path.iterdir())


@on_one_backend
def test_what_cannot_be_written_does_not_end_the_run(tmp_path):
    (tmp_path / "log.csv").mkdir()  # a file cannot take its place
    (tmp_path / "tensorboard").write_text("in the way")
    with pytest.warns(UserWarning) as warned:
        log_epochs(tmp_path, ROWS, tensorboard=True)
    said = [str(warning.message) for warning in warned]
    assert sum(line.startswith("The log cannot be written") for line in said) == 2
    assert any(line.startswith("TensorBoard's log cannot be written") for line in said)


@on_one_backend
def test_a_missing_weights_and_biases_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(ValueError, match="install wandb or --wandb=none"):
        with open_logs(tmp_path, config(wandb="project")):
            pytest.fail("training would have started")
    assert not list(tmp_path.iterdir())


@on_one_backend
def test_weights_and_biases_gets_the_log(tmp_path, monkeypatch):
    """Offline, which writes what would be sent into the folder of the run."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    log_epochs(tmp_path, ROWS[:1], wandb="project", tensorboard=False)
    log_epochs(tmp_path, ROWS, wandb="project", tensorboard=False)
    files = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    identity = (tmp_path / "wandb_id.txt").read_text().strip()
    assert len(files) in (1, 2) and all(identity in file.name for file in files)

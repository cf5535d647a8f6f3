"""Detectors are measured: ground truth as detections scores 1, mistakes are found and drawn."""

import dataclasses
import json
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext.detection.callbacks import COCOScores
from keras_convnext.pretrained.saving import save_keras
from keras_convnext.segmentation.overlays import palette
from tests import tiny_detector
from tests.annotated_shapes import CATEGORIES, ground_truth, tiny_set, written
from tests.backends import on_one_backend
from training.data.coco import PLACES, coco
from training.data.dataset import DataError
from training.evaluate import coco_set, detecting, detection_report
from training.evaluate import command as evaluate
from training.evaluate.detection_mistakes import LOOSE, MISSED, WRONG
from training.run import record

pytest.importorskip("pycocotools")

COCO = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco200.zip"


class Told:
    """A detector that was told the answers, `{pixels: Detections}`."""

    size, canvas, batch_size = (800, 1333), "smallest", 2

    def __init__(self, names, answers, labels=True):
        self.names, self.answers, self.labels = names, answers, labels or None

    def batch(self, images):
        return [self.answers[np.asarray(image).tobytes()] for image in images]


def told(photos, names, change=lambda found, key: found):
    """Returns the detector that knows the ground truth of a set, changed by a function."""
    answers = {}
    for key, path in photos.paths.items():
        pixels = np.asarray(Image.open(path).convert("RGB"))
        answers[pixels.tobytes()] = change(ground_truth(photos.content, key, names), key)
    return Told(names, answers)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return coco_set.read(*written(tmp_path_factory.mktemp("set")))


NAMES = ("square", "unheard of", "bar", "disc")  # in another order than in the set


@on_one_backend
def test_the_ground_truth_as_detections_scores_one(photos, tmp_path):
    evaluation = detecting.evaluate(told(photos, NAMES), photos)
    assert evaluation.box.ap == evaluation.mask.ap == 1
    assert evaluation.box.images == 5 and evaluation.box.objects == 15
    assert evaluation.other_classes == ("unheard of",)
    assert evaluation.mistakes == {MISSED: (), WRONG: (), LOOSE: ()}
    result = detection_report.result_of("told", told(photos, NAMES), photos, evaluation)
    detection_report.write_report(tmp_path / "report", result, evaluation)
    assert json.loads((tmp_path / "report/result.json").read_text()) == result
    assert result["box"]["ap"] == result["mask"]["ap"] == 1 and result["mistakes"] == []
    assert (tmp_path / "report/classes.csv").read_text().splitlines() == [
        "class,objects,box_ap,box_ap50,mask_ap,mask_ap50",
        "disc,8,1.0,1.0,1.0,1.0",
        "square,3,1.0,1.0,1.0,1.0",
        "bar,4,1.0,1.0,1.0,1.0",
        "nothing of this kind,0,,,,",
    ]


@on_one_backend
def test_the_ground_truth_of_coco_as_detections_scores_one(tmp_path):
    """Twenty photographs, with category ids that have gaps, and crowds."""
    if not COCO.exists():
        pytest.skip("needs ../shared/data/coco200.zip")
    with zipfile.ZipFile(COCO) as archive:
        content = json.loads(archive.read("coco200/instances_val.json"))
        crowds = {row["image_id"] for row in content["annotations"] if row["iscrowd"]}
        rows = sorted(content["images"], key=lambda row: row["id"] not in crowds)[:20]
        chosen = {row["id"] for row in rows}
        content["images"] = rows
        content["annotations"] = [r for r in content["annotations"] if r["image_id"] in chosen]
        for row in rows:
            name = row["file_name"]
            (tmp_path / name).write_bytes(archive.read(f"coco200/images/val2017/{name}"))
    (tmp_path / "instances.json").write_text(json.dumps(content))
    photos = coco_set.read(tmp_path / "instances.json", tmp_path)
    evaluation = detecting.evaluate(told(photos, tuple(photos.categories.values())), photos)
    for scores in (evaluation.box, evaluation.mask):
        assert (scores.ap, scores.ap_small, scores.ap_large, scores.ar100) == (1, 1, 1, 1)
        assert len(scores.classes) == 80 and scores.images == 20
    assert crowds <= chosen and not any(evaluation.mistakes.values())


@on_one_backend
def test_what_the_training_reads_scores_one_too(tmp_path):
    """From the files through the reader of the training."""
    path, folder = written(tmp_path)
    places = {"train_annotations": path.name, "train_images": folder.name}
    places |= {"validation_annotations": path.name, "validation_images": folder.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the splits are equal
        photos = coco_set.of_split(coco(str(tmp_path), **places).validation)
    evaluation = detecting.evaluate(told(photos, NAMES), photos)
    assert evaluation.box.ap == evaluation.mask.ap == 1
    assert (evaluation.box.images, evaluation.box.objects) == (5, 15)


@on_one_backend
def test_spellings_are_read_as_in_a_training(photos, tmp_path):
    """A byte-order mark, backslashes, spaces around a name, whole numbers with a point."""
    path, folder = written(tmp_path)
    content = tiny_set()[0]
    content["categories"][0]["name"] = f" {content['categories'][0]['name']} "
    for row in content["images"]:
        row["id"], row["file_name"] = float(row["id"]), f".\\images\\{row['file_name']}"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    read = coco_set.read(path, folder.parent)
    assert read.categories == photos.categories
    assert [*read.paths.values()] == [folder / name.name for name in photos.paths.values()]
    evaluation = detecting.evaluate(told(photos, NAMES), read)
    assert evaluation.box.ap == evaluation.mask.ap == 1
    assert [row.name for row in evaluation.box.classes] == list(photos.categories.values())


@on_one_backend
def test_the_worst_mistakes_are_found_and_drawn(photos, tmp_path):
    """An object that is missed, a wrong class, a mask that fills its box."""
    first, second, _, _, last = photos.paths

    def change(found, key):
        if key == first:  # without the square, the largest
            return found[np.array(found.names) != "square"]
        if key == second:
            found.labels[0], found.scores[0] = NAMES.index("bar"), 0.75
        if key == last:
            found.crops[0] = np.ones((28, 28), "float32")  # of a disc
            found.crops[3] = np.ones((28, 28), "float32")
            found.scores[3] = 0.2  # not looked at
        return found

    evaluation = detecting.evaluate(told(photos, NAMES, change), photos)
    missed, wrong, loose = (evaluation.mistakes[kind] for kind in (MISSED, WRONG, LOOSE))
    assert [each.name for each in missed] == ["square", "disc"]
    assert missed[0].image.endswith("0.png") and missed[0].value == 48 * 48
    assert missed[0].title == "square\n48 x 48 pixels"
    assert [each.title for each in wrong] == ["disc\nscore 0.75"]
    assert [each.name for each in loose] == ["disc"]
    assert loose[0].value == pytest.approx(np.pi / 4, abs=0.05)
    assert loose[0].title == "disc\nIoU of the masks 0.79"
    frame = np.array((255, 0, 0))
    for each in (*missed, *wrong, *loose):
        assert (each.truth == frame).all(-1).any() and (each.found == frame).all(-1).any()
        assert max(each.truth.shape) <= 320
    result = detection_report.result_of("told", told(photos, NAMES), photos, evaluation)
    assert [row["kind"] for row in result["mistakes"]] == [MISSED, MISSED, WRONG, LOOSE]
    detection_report.write_report(tmp_path / "report", result, evaluation)
    with Image.open(tmp_path / "report/mistakes.png") as sheet:
        away = np.abs(np.asarray(sheet.convert("RGB")).astype(int) - frame).max(-1)
    assert (away < 60).sum() > 500  # the pictures are resized in it
    assert 0 < evaluation.box.ap < 1
    square, bar, disc = (NAMES.index(name) for name in ("square", "bar", "disc"))
    assert colours(missed[0].truth) >= {square} and square not in colours(missed[0].found)
    assert disc in colours(wrong[0].truth) and bar in colours(wrong[0].found)
    for each in loose:
        assert disc in colours(each.truth) and colours(each.truth) == colours(each.found)


def colours(picture):
    """Returns the labels whose colours are in a picture: in boxes, and below names."""
    known = palette(60)[1 : 1 + len(NAMES)].astype(int)
    away = np.abs(picture[None].astype(int) - known[:, None, None]).max(-1)
    return set(np.flatnonzero((away < 10).sum((1, 2)) > 50).tolist())


@on_one_backend
def test_a_sheet_has_headings_for_the_mistakes_that_there_are(photos, tmp_path):
    evaluation = detecting.evaluate(told(photos, NAMES, lambda found, key: found[:0]), photos)
    kinds = {kind: len(found) for kind, found in evaluation.mistakes.items()}
    assert kinds == {MISSED: 6, WRONG: 0, LOOSE: 0}
    nothing = dataclasses.replace(evaluation, mistakes=dict.fromkeys(kinds, ()))
    both = {**evaluation.mistakes, LOOSE: evaluation.mistakes[MISSED]}
    both = dataclasses.replace(evaluation, mistakes=both)
    heights = []
    for number, each in enumerate((nothing, evaluation, both)):
        detection_report.draw_mistakes(each, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as sheet:
            heights.append(sheet.height)
    assert heights[0] < 100 and heights[2] - heights[1] == heights[1] - heights[0] > 500


@on_one_backend
def test_what_cannot_be_measured_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="does not know 'square'"):
        detecting.label_of(Told(("disc", "bar"), {}), photos)
    nameless = Told(("class 0", "class 1", "class 2", "class 3"), {}, labels=False)
    assert detecting.label_of(nameless, photos) == {3: 0, 7: 1, 40: 2, 99: 3}
    nameless.names = nameless.names[:3]
    with pytest.raises(ValueError, match="4 categories, the detector has 3 classes"):
        detecting.label_of(nameless, photos)
    path, folder = written(tmp_path)
    content = tiny_set()[0]
    names = {row["id"]: row["name"] for row in content["categories"]}
    categories = [{"id": 0, "name": "disc"}, *content["categories"]]
    path.write_text(json.dumps({**content, "categories": categories}))
    detector = Told(("disc", "bar", "square"), {})
    known = detecting.label_of(detector, coco_set.read(path, folder))
    assert {names[key]: label for key, label in known.items()} == {"disc": 0, "bar": 1, "square": 2}

    def refused(match, **changes):
        path.write_text(json.dumps({**content, **changes}))
        with pytest.raises(DataError, match=match):
            coco_set.read(path, folder)

    refused("has no objects, or crowds alone", annotations=[])
    crowd = [row for row in content["annotations"] if row["iscrowd"]]
    refused("has no objects, or crowds alone", annotations=crowd)
    images = content["images"]
    refused("image id 100", images=images + images[:1])
    missing = [{**row, "file_name": f"no/{row['file_name']}"} for row in images]
    refused("5 of 5 images of .* no/0.png", images=missing)
    refused("does not lead out of it", images=[{**images[0], "file_name": "../x.png"}, *images[1:]])
    refused("categor", categories=[])
    path.write_text('{"images": [')
    with pytest.raises(DataError, match="is no JSON"):
        coco_set.read(path, folder)
    path.write_text(json.dumps({**content, "images": [{**row, "width": 7} for row in images]}))
    with pytest.raises(DataError, match="has a mask that cannot be read"):
        coco_set.read(path, folder)
    boxes = [{**row, "segmentation": []} for row in content["annotations"]]
    sizes = [{**row, "width": row["width"] + 1} for row in images]
    path.write_text(json.dumps({**content, "images": sizes, "annotations": boxes}))
    without_masks = coco_set.read(path, folder)
    assert not without_masks.has_masks
    with pytest.raises(DataError, match="its objects are of another image"):
        detecting.evaluate(told(photos, NAMES), without_masks)
    path.write_text(json.dumps({**content, "annotations": boxes}))
    evaluation = detecting.evaluate(told(photos, NAMES), coco_set.read(path, folder))
    assert (evaluation.box.ap, evaluation.mask, evaluation.mistakes[LOOSE]) == (1, None, ())


# ---------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The record of a detector with random weights, trained beside the tiny set."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    data_dir = tmp_path_factory.mktemp("data")
    path, images = written(data_dir)
    save_keras(tiny_detector.build(classes=4), folder / "best.keras")
    classes = [[str(key), name] for key, name in CATEGORIES.items()]
    record.write_json(folder / record.CLASSES, classes)
    places = dict.fromkeys(PLACES[::2], path.name)
    places |= dict.fromkeys(PLACES[1::2], images.name)
    fields = {"detector": "mask_rcnn", "data_dir": str(data_dir), "masks": True, "size": [96, 64]}
    record.write_json(folder / record.CONFIG, {"config": fields | places, "backend": "any"})
    return folder


@on_one_backend
@pytest.mark.filterwarnings("ignore::UserWarning")  # of crowds, and splits that are equal
def test_a_run_is_measured_by_the_command(run, tmp_path, capsys):
    """On an annotation file, and on its own validation images: the same scores."""
    path, folder = written(tmp_path)
    flags = ["--data", str(path), "--images", str(folder), "--size", "32", "--canvas", "fixed"]
    assert evaluate.main([str(run), *flags, "--batch_size", "2"]) == 0
    said = capsys.readouterr().out
    found = json.loads((run / "evaluation_objects/result.json").read_text())
    assert (found["data"], found["images"], found["objects"]) == ("objects.json", 5, 15)
    assert (found["path"], found["split"]) == (str(path), None)
    assert found["transform"] == {"size": [32, 48], "canvas": "fixed"}
    assert 0 <= found["box"]["ap"] < 0.2 and 0 <= found["mask"]["ap"] < 0.2
    assert found["box"]["ap_large"] is None
    assert [row["class"] for row in found["classes"]] == list(CATEGORIES.values())
    assert {row["kind"] for row in found["mistakes"]} >= {MISSED, WRONG}
    for name in detection_report.FILES:
        assert (run / "evaluation_objects" / name).exists() and name in said
    assert "box AP " in said and "nothing of this kind\t0\t-\t-\t-\t-" in said
    own = tmp_path / "own"
    assert evaluate.main([str(run), "--output", str(own)]) == 0
    found = json.loads((own / "result.json").read_text())
    assert found["transform"]["size"] == [64, 96]
    config = record.read_config(run)["config"]
    trained = Path(config["data_dir"]) / config["validation_annotations"]
    assert (found["path"], found["split"]) == (str(trained), "validation")


@on_one_backend
@pytest.mark.parametrize(
    "flags, status, message",
    [
        (["--data={path}"], 2, "name the folder of its images with --images"),
        (["--data={path}", "--images=nowhere"], 1, "The folder 'nowhere' does not exist"),
        (["--data=none.json", "--images=."], 1, "'none.json' cannot be read"),
        (["--data={path}", "--images=.", "--data_dir=."], 2, "omit --data_dir"),
        (["--data={path}", "--images=.", "--split=all"], 2, "--split is not for an annotation"),
        (["--data={path}", "--images=.", "--upright"], 2, "--upright is for classifiers"),
        (["--split=all"], 1, "the run has train and validation"),
        (["--images=."], 2, "--images belongs to an annotation file"),
        (["--data=digits", "--canvas=fixed"], 2, "are for detectors"),
    ],
)
def test_wrong_flags_end_in_one_sentence(run, photos, flags, status, message, capsys):
    path = next(iter(photos.paths.values())).parents[1] / "objects.json"
    assert evaluate.main([str(run), *(flag.format(path=path) for flag in flags)]) == status
    said = capsys.readouterr().err
    assert message in said and said.count("error:") == 1


# ---------------------------------------------------------------------------- in fit

SIDE, MOST = 64, 3


class Recalls(keras.Model):
    """Detects the objects that it was told for each image, which it knows by its first pixel, but
    for the first `forgotten` of them, a weight; the mean of its scores rises with it."""

    def __init__(self, answers, forgotten):
        super().__init__()
        for name, values in answers.items():
            setattr(self, f"known_{name}", self.add_weight(values.shape, trainable=False))
            getattr(self, f"known_{name}").assign(values)
        self.forgotten = self.add_weight((), initializer=keras.initializers.Constant(forgotten))
        self.answers = tuple(answers)

    def call(self, inputs):
        ops = keras.ops
        images = inputs["images"]
        which = ops.cast(images[:, 0, 0, 0], "int32")
        found = {n: ops.take(getattr(self, f"known_{n}"), which, axis=0) for n in self.answers}
        place = ops.cast(ops.arange(MOST), "float32")
        labels = ops.where(place[None] + 0.5 < self.forgotten, -1.0, found["labels"])
        scores = found["scores"] + self.forgotten - ops.stop_gradient(self.forgotten)
        return {**found, "labels": ops.cast(labels, "int32"), "scores": scores}


def batches():
    """Two batches of two images, the last without objects, in the form that detectors train on."""
    boxes = np.full((4, MOST, 4), -1, "float32")
    labels = np.full((4, MOST), -1, "int32")
    for image in range(3):
        for place in range(MOST):
            x, y = 4 + 18 * place, 6 + 12 * image
            boxes[image, place] = x, y, x + 12, y + 10
            labels[image, place] = (image + place) % 2
    crops = np.ones((4, MOST, 112, 112), "uint8")
    crops[:, :, :56] = 0
    images = np.zeros((4, SIDE, SIDE, 3), "float32")
    images[:, 0, 0, 0] = np.arange(4)
    whole = {"images": images, "boxes": boxes, "labels": labels, "mask_crops": crops}
    parts = [{key: value[first : first + 2] for key, value in whole.items()} for first in (0, 2)]
    return whole, parts


def recalling(forgotten=0.0, with_masks=True):
    whole, _ = batches()
    masks = whole["mask_crops"].reshape(4, MOST, 28, 4, 28, 4).mean((3, 5))
    answers = {
        "boxes": whole["boxes"],
        "labels": whole["labels"].astype("float32"),
        "scores": np.where(whole["labels"] >= 0, 0.9, -1).astype("float32"),
        **({"masks": masks.astype("float32")} if with_masks else {}),
    }
    return Recalls(answers, forgotten)


def test_scores_after_each_epoch_of_fit():
    whole, parts = batches()

    model = recalling(2.0)  # one more after each epoch
    loss = {"scores": lambda y, scores: keras.ops.mean(scores, axis=-1)}
    model.compile(keras.optimizers.SGD(1.0), loss=loss)
    scores = COCOScores(parts)
    y = {"scores": np.zeros((4, MOST), "float32")}
    x = {"images": whole["images"]}
    history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[scores]).history
    names = ["val_box_ap", "val_box_ap50", "val_mask_ap", "val_mask_ap50"]
    assert [name for name in history if name.startswith("val_")] == names
    for name in names:
        before, after = history[name]
        assert 0.4 < before < 0.8 and after == 1
    assert scores.scores["box"].objects == 9 and scores.scores["mask"].images == 4


@on_one_backend
def test_the_forms_of_a_data_set():
    """Batches, one dict, whole masks in place of crops, a `PyDataset`; data without masks."""
    whole, parts = batches()
    expected = dict.fromkeys(("box_ap", "box_ap50", "mask_ap", "mask_ap50"), 1.0)
    model = recalling()
    assert COCOScores(parts).measure(model) == expected
    assert COCOScores([(part, None) for part in parts]).measure(model) == expected
    assert COCOScores(whole, batch_size=3).measure(model) == expected

    class Parts(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, place):
            return (parts[place],)

    assert COCOScores(Parts()).measure(model) == expected
    masks = np.zeros((4, MOST, SIDE, SIDE), bool)
    for image, place in np.argwhere(whole["labels"] >= 0):
        x1, y1, x2, y2 = whole["boxes"][image, place].astype(int)
        masks[image, place, y1 + 5 : y2, x1:x2] = True
    pasted = {**{k: v for k, v in whole.items() if k != "mask_crops"}, "masks": masks}
    assert COCOScores(pasted).measure(model) == expected
    filled = {key: np.concatenate([value, value[:2]]) for key, value in whole.items()}
    filled["labels"][4:] = 1 - filled["labels"][4:]  # would be wrong
    scores = COCOScores({**filled, "weights": np.array([1, 1, 1, 1, 0, 0], "float32")})
    assert scores.measure(model) == expected
    assert (scores.scores["box"].images, scores.scores["box"].objects) == (4, 9)
    boxes = {key: expected[key] for key in ("box_ap", "box_ap50")}
    assert COCOScores(parts).measure(recalling(with_masks=False)) == boxes
    no_masks = {key: value for key, value in whole.items() if key != "mask_crops"}
    assert COCOScores(no_masks).measure(model) == boxes


@on_one_backend
def test_a_data_set_that_cannot_be_scored_is_refused():
    whole, parts = batches()
    with pytest.raises(ValueError, match="an iterator|the iterator"):
        COCOScores(iter(parts))
    with pytest.raises(ValueError, match="batch_size"):
        COCOScores(parts, batch_size=0)
    model = recalling()
    with pytest.raises(ValueError, match="4 images for COCOScores have no objects"):
        COCOScores({**whole, "labels": np.full((4, MOST), -1)}).measure(model)
    with pytest.raises(ValueError, match="must be a dict with images, boxes, labels"):
        COCOScores([whole["images"]]).measure(model)

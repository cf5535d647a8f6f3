"""Sets in COCO's format, and what a detector's training makes of their images."""

import json
import math
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from keras_convnext.detection import rle
from keras_convnext.detection.annotations import checked_truth
from keras_convnext.detection.augmentation import CropAndResize, Fit, LargeScaleJitter, Objects
from tests import tiny_objects
from tests.backends import on_one_backend
from training.data import DataError, coco_objects, pairs, stream, turned
from training.data.coco import coco, grouped
from training.data.packed import Packed
from training.evaluate import coco_set

pytestmark = on_one_backend
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return tiny_objects.write_coco(tmp_path_factory.mktemp("shapes"), portraits=True)


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return coco(*arguments, **options)


# ---------------------------------------------------------------------------- annotation files


def test_ids_with_gaps_are_labels_in_their_order(shapes):
    dataset = coco(str(shapes))
    assert dataset.class_names == ("rectangle", "ellipse")
    assert (dataset.train.size, dataset.validation.size) == (6, 3)
    entries, _ = tiny_objects.content(portraits=True)
    labels = {3: 0, 7: 1}
    for image in dataset.train.images:
        own = [a for a in entries["annotations"] if a["image_id"] == image.id]
        found = json.loads(image.objects)
        assert found["labels"] == [labels[a["category_id"]] for a in own]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in own)]
        assert found["boxes"] == boxes
    assert "2 classes (rectangle, ellipse); 6 images with 12 objects" in dataset.summary


def test_masks_in_every_form_are_the_same_pixels(shapes):
    _, objects = tiny_objects.draw(0)
    for category, (x, y, w, h), mask in objects:
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        forms = [tiny_objects.runs(mask), rle.encode(mask)] + [polygon] * (category == 3)
        for form in forms:
            text = {"size": [96, 64], "boxes": [[x, y, x + w, y + h]], "labels": [0]}
            text["segmentations"] = [form]
            picture = (shapes / "train2017" / "000.png").read_bytes()
            _, found = coco_objects.read(picture, json.dumps(text).encode())
            np.testing.assert_array_equal(found.mask(0), mask)


@pytest.mark.parametrize("layout", ["roboflow", "single", "flat", "named"])
def test_layouts_are_recognised(layout, tmp_path):
    flags = {}
    if layout == "roboflow":
        for name, first in (("train", 0), ("valid", 100)):
            folder = tmp_path / name
            tiny_objects.write(folder / "_annotations.coco.json", folder, 3, first)
    elif layout == "single":
        tiny_objects.write(tmp_path / "annotations.json", tmp_path / "images", 11)
    elif layout == "flat":
        for name, first in (("train", 0), ("val", 100)):
            file = tmp_path / f"instances_{name}.json"
            tiny_objects.write(file, tmp_path / "images", 3, first)
    else:
        tiny_objects.write(tmp_path / "a.json", tmp_path / "photos", 3)
        tiny_objects.write(tmp_path / "b.json", tmp_path / "others", 3, 100)
        flags = {"train_annotations": "a.json", "train_images": "photos"}
        flags |= {"validation_annotations": "b.json", "validation_images": "others"}
    dataset = coco(tmp_path, **flags)
    sizes = (9, 2) if layout == "single" else (3, 3)  # every tenth, the first among them
    assert (dataset.train.size, dataset.validation.size) == sizes
    assert set(dataset.train.paths).isdisjoint(dataset.validation.paths)


def test_the_truth_of_a_split_is_that_of_its_file(shapes):
    truth = coco(str(shapes)).train.truth()
    entries, _ = tiny_objects.content(portraits=True)
    assert truth["categories"] == sorted(entries["categories"], key=lambda row: row["id"])
    for expected, found in zip(entries["annotations"], truth["annotations"], strict=True):
        assert {key: expected[key] for key in found} == found


def changed(key, **fields):
    """Returns a function that changes the first annotation, or image."""
    return lambda content: content[key][0].update(fields)


def appended(key, **fields):
    return lambda content: content[key].append({**content[key][0], **fields})


def with_image(size, **fields):
    """Returns a function that adds an image with one object."""

    def add(content):
        appended("images", **size, id=99)(content)
        square = [[0, 0, 1, 0, 1, 1, 0, 1]]
        row = {"id": 999, "image_id": 99, "segmentation": square, **fields}
        appended("annotations", **row)(content)

    return add


LEFT_OUT = [
    (changed("annotations", bbox=[5, 5, 0, 9]), "Not learned: 1 object with a box narrower than"),
    (changed("annotations", bbox=[500, 5, 9, 9]), "Not learned: 1 object outside of the image"),
    (changed("annotations", iscrowd=1), "Not learned: 1 object marked as a crowd"),
    (changed("annotations", category_id=4), "1 object without a category in the list"),
    (changed("annotations", image_id=4), "1 object without an image in the list"),
    (changed("annotations", bbox=[1, math.nan, 2, 2]), "without a `bbox` of four numbers"),
    (changed("annotations", bbox=[1, 2, 2, 10**400]), "without a `bbox` of four numbers"),
    (changed("annotations", bbox="[1, 2, 3, 4]"), "without a `bbox` of four numbers"),
    (changed("annotations", segmentation=[]), "1 object without a `segmentation`"),
    (changed("annotations", segmentation=[[1, 2, 3, 4]]), "without a polygon of three points"),
    (changed("annotations", segmentation=[[1, 2, math.inf, 4, 5, 6]]), "damaged `segmentation`"),
    (
        changed("annotations", segmentation=[[0.5] * 400_000]),
        "polygons of more than 100,000 points",
    ),
    (
        changed("annotations", segmentation={"size": [96, 64], "counts": [96 * 64]}),
        "with a mask of another size than the image",
    ),
    (
        changed("annotations", segmentation={"size": [64, 96], "counts": [1, 2]}),
        "with a damaged `segmentation`",
    ),
    (
        changed("annotations", segmentation={"size": [64, 96], "counts": "0" * 10**6}),
        "with a damaged `segmentation`",
    ),
    (
        appended("annotations", bbox=[1, 1, 5, 5]),
        "Repeated: 1 record with the id of another object; both count",
    ),
    (appended("annotations"), "Repeated: 1 record about an object that counts once"),
    (appended("images"), "Repeated: 1 record about an image"),
    (appended("images", id=99, file_name="lost.png"), "Left out: 1 image of .* that are not in"),
    (
        appended("categories", id=0, name="ellipse "),
        r"Left out: 1 label without objects, of the name of another, the first is ellipse \(id 0\)",
    ),
    (
        with_image({"width": 96, "height": 64}, iscrowd=1),
        "Not trained on: 1 image without an object to learn, which only validation uses",
    ),
    (
        with_image({"width": 1, "height": 1}, bbox=[0, 0, 1, 1]),
        "Not trained on: 1 image with a side below 32 pixels",
    ),
    (
        appended("images", id=99),
        "Not trained on: 1 image without an object to learn, which only validation uses",
    ),
]


@pytest.mark.parametrize("change, sentence", LEFT_OUT)
def test_what_is_left_out_is_said(change, sentence, tmp_path):
    root = tiny_objects.write_coco(tmp_path, changed=change)
    with pytest.warns(UserWarning, match=sentence):
        dataset = coco(root)
    assert dataset.class_names == ("rectangle", "ellipse")
    assert dataset.train.size == 6 and 11 <= dataset.train.objects <= 13


REFUSED = [
    (lambda content: content.pop("images"), "is not in COCO's format.*it needs 'images'"),
    (changed("images", file_name="../secret.png"), "does not lead out of it"),
    (changed("images", file_name="/etc/passwd"), "does not lead out of it"),
    (changed("images", file_name="..\\secret.png"), "does not lead out of it"),
    (changed("images", file_name="\0.png"), "needs a `file_name`"),
    (changed("images", file_name="C:photo.jpg"), "does not lead out of it"),
    (changed("images", file_name="x" * 5000), "a `file_name` of at most 2000 bytes"),
    (changed("images", file_name="x/" * 1001), "a `file_name` of at most 2000 bytes, 255 between"),
    (changed("images", width=-5), "whole numbers `width` and `height` >= 1"),
    (changed("images", width=10**9, height=10**9), "at most 178,956,970 pixels"),
    (changed("images", id="first"), "a whole number `id`"),
    (appended("images", file_name="001.png"), "two images of the id 10"),
    (
        changed("categories", name="rectangle"),
        "two categories of the name 'rectangle', the ids 3 an",
    ),
    (appended("categories", name="circle"), "two categories of the id 7"),
    (lambda content: content.update(categories=[]), "has no categories"),
    (changed("categories", name="circle"), "have other categories: the id 7 is 'circle'"),
    (
        lambda content: [a.update(category_id=5) for a in content["annotations"]],
        "12 of 12 objects .* cannot be used, most of them without a category in the list",
    ),
    (
        lambda content: [a.update(segmentation=[]) for a in content["annotations"]],
        "No object of .* has a mask: train on boxes alone with --masks=false",
    ),
    (
        lambda content: [a.update(iscrowd=1) for a in content["annotations"]],
        "No image of .* can be trained on",
    ),
    (
        lambda content: [i.update(file_name=f"x{i['id']}.png") for i in content["images"][1:]],
        "5 of 6 images of .* are not in",
    ),
]


@pytest.mark.parametrize("change, sentence", REFUSED)
def test_what_contradicts_itself_is_refused(change, sentence, tmp_path):
    root = tiny_objects.write_coco(tmp_path, changed=change)
    with pytest.raises(DataError, match=f"(?s){sentence}"):
        quiet(root)


def test_files_that_are_no_annotations_are_refused(shapes, tmp_path):
    with pytest.raises(DataError, match="has no annotations for training in COCO's format"):
        coco(tmp_path)
    file = tmp_path / "instances_train.json"
    for text, sentence in (
        ("[" * 100_000, "is no JSON"),
        ("{", "is no JSON"),
        ("3", "not in COCO"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=sentence):
            coco(tmp_path)
    with open(file, "wb") as sparse:
        sparse.truncate(2**31 + 1)
    with pytest.raises(DataError, match="has more than 2 GiB"):
        coco(tmp_path)
    with pytest.raises(DataError, match="There is no annotation file"):
        coco(shapes, train_annotations="nothing.json")
    tiny_objects.write(tmp_path / "a.json", tmp_path / "images", 3)
    file.unlink()
    with pytest.raises(DataError, match="needs --validation_annotations"):
        coco(tmp_path, train_annotations="a.json", validation_images="x")


def test_a_file_is_looked_for_unless_it_is_named(tmp_path):
    """Two files that could be meant, of which one is named; files for tests do not matter."""
    tiny_objects.write_coco(tmp_path)
    annotations = tmp_path / "annotations"
    for name, first in (("val", 200), ("test", 300), ("test2017", 400)):
        tiny_objects.write(annotations / f"instances_{name}.json", tmp_path / "more", 4, first)
    with pytest.raises(DataError, match="Name one with --validation_annotations"):
        coco(tmp_path)
    file = "annotations/instances_val2017.json"
    dataset = coco(tmp_path, validation_annotations=file)
    assert (dataset.train.size, dataset.validation.size) == (6, 3)
    (annotations / "instances_val.json").unlink()
    dataset = coco(tmp_path, train_annotations="annotations/instances_train2017.json")
    assert (dataset.train.size, dataset.validation.size) == (6, 3)
    alone = coco(tmp_path, train_annotations=file)
    assert (alone.train.size, alone.validation.size) == (2, 1)


@pytest.mark.filterwarnings("ignore:Left out", "ignore:Not learned")
def test_what_is_not_learned_is_measured(tmp_path):
    """Boxes of half a pixel and outside, and an object without a mask, are in the truth alone."""
    root = tiny_objects.write_coco(tmp_path, validation=2)
    file = root / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    first, second, *_ = content["annotations"]
    first["bbox"][2], second["bbox"][0] = 0.5, 500
    file.write_text(json.dumps(content))
    split = quiet(root).validation
    assert split.objects == 2 and len(split.truth()["annotations"]) == 4
    photos = coco_set.of_split(split)
    boxes = sorted(row["bbox"] for row in content["annotations"])
    assert sorted(row["bbox"] for row in photos.content["annotations"]) == boxes
    assert photos.has_masks and coco_set.read(file, split.folder).has_masks
    first["segmentation"] = []
    for number in range(4, 24):  # a tenth may be unusable
        content["annotations"].append({**content["annotations"][-1], "id": number + 100})
    file.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="masks of the validation are not measured.*: 1 object of"):
        split = coco(root).validation
    photos, read = coco_set.of_split(split), coco_set.read(file, split.folder)
    assert not photos.has_masks and not read.has_masks
    assert len(photos.content["annotations"]) == len(read.content["annotations"]) == 24


def test_whole_numbers_may_have_a_point(tmp_path):
    def points(content):
        for name in ("images", "categories"):
            for row in content[name]:
                row["id"] = float(row["id"])

    root = tiny_objects.write_coco(tmp_path, changed=points)
    split = coco(root).train
    assert all(type(image.id) is int for image in split.images)
    assert all(type(key) is int for key in split.file.categories)
    truth = checked_truth(split.truth())
    file = root / "annotations" / "instances_train2017.json"
    read = checked_truth(json.loads(file.read_text()), masks=True)
    assert truth.images == read.images and truth.categories == {3: 1, 7: 2}
    assert all(type(key) is int for key in (*read.images, *read.categories))


def test_boxes_alone_need_no_masks(tmp_path):
    def without(content):
        for annotation in content["annotations"]:
            annotation["segmentation"] = []

    root = tiny_objects.write_coco(tmp_path, changed=without)
    dataset = coco(root, masks=False)
    assert dataset.train.objects == 12
    assert "segmentations" not in json.loads(dataset.train.images[0].objects)


def test_a_missing_box_is_that_of_the_mask(tmp_path):
    def without(content):
        for annotation in content["annotations"]:
            del annotation["bbox"]

    root = tiny_objects.write_coco(tmp_path, changed=without)
    for image in coco(root).train.images:
        _, objects = tiny_objects.draw(image.id - 10)
        for found, (_, _, mask) in zip(json.loads(image.objects)["boxes"], objects, strict=True):
            rows, columns = np.nonzero(mask)
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert found == [int(edge) for edge in expected]


def test_another_set_of_annotations_is_another_fingerprint(shapes, tmp_path):
    first = coco(str(shapes)).fingerprint()
    root = tiny_objects.write_coco(tmp_path, portraits=True, changed=changed("annotations", area=5))
    assert coco(root).fingerprint()["validation"] == first["validation"]
    assert coco(root).fingerprint()["train"] != first["train"]


# ---------------------------------------------------------------------------- the recipes


def gradient(width, height):
    """Returns an image whose red is the column and whose green is the row."""
    pixels = np.zeros((height, width, 3), "uint8")
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_an_image_that_fits_stays_as_it_is():
    mask = np.zeros((64, 96), bool)
    mask[10:30, 20:60] = True
    mask[10:30, 20:40] = False
    objects = Objects(np.float32([[20, 10, 60, 30]]), np.int32([1]), lambda number: mask)
    found = Fit((96, 128), objects=3, size=(96, 64))(gradient(96, 64), objects, (0, 0, 0))
    np.testing.assert_array_equal(found["image"][:64, :96], np.asarray(gradient(96, 64)))
    assert (found["image"][64:] == [124, 116, 104]).all()
    assert found["boxes"].tolist() == [[20, 10, 60, 30], [0] * 4, [0] * 4]
    assert found["labels"].tolist() == [1, -1, -1] and found["image_shape"].tolist() == [64, 96]
    crop = np.ones((112, 112), "uint8")
    crop[:, :56] = 0
    np.testing.assert_array_equal(found["mask_crops"][0], crop)
    assert not found["mask_crops"][1:].any()


@pytest.mark.parametrize(
    "size, shown",
    [
        ((640, 480), (1067, 800)),
        ((500, 1000), (667, 1333)),
        ((8000, 8000), (800, 800)),
        ((1, 1), (800, 800)),
        ((8000, 1), (1333, 1)),
    ],
)
def test_the_evaluation_s_sizes(size, shown):
    assert Fit().view(size).size == shown


def test_views_are_functions_of_their_key_and_fit_on_the_canvas():
    recipe, jitter = CropAndResize(), LargeScaleJitter()
    random = np.random.default_rng(0)
    seen = dict.fromkeys(("changed", "cropped", "mirrored", "turned"), 0)
    for index, size in enumerate(random.integers(32, 900, (400, 2)).tolist()):
        view = recipe.viewed(tuple(size), (3, 1, index))
        assert view == recipe.viewed(tuple(size), (3, 1, index))
        seen["changed"] += view != recipe.viewed(tuple(size), (3, 2, index))
        canvas = (832, 1344) if view.is_portrait else (1344, 832)
        assert view.size[0] <= canvas[0] and view.size[1] <= canvas[1]
        left, top, width, height = view.part
        assert min(left, top) >= 0 and left + width <= size[0] + 1e-6
        assert top + height <= size[1] + 1e-6
        assert min(view.size) in range(480, 801, 32) or max(view.size) in (1332, 1333)
        seen["cropped"] += view.part[2:] != tuple(map(float, size))
        seen["mirrored"] += view.mirrored
        seen["turned"] += view.is_portrait != (size[1] > size[0])
        view = jitter.viewed(tuple(size), (3, 1, index))
        assert max(view.size) <= 1024
    assert 150 < seen["cropped"] < 250 and 150 < seen["mirrored"] < 250
    assert seen["turned"] > 0 and seen["changed"] > 300


def test_boxes_and_masks_follow_the_image():
    """What is shown inside of a box is red where its mask is, for any view."""
    pixels, mask = np.zeros((200, 300, 3), "uint8"), np.zeros((200, 300), bool)
    mask[60:140, 90:210] = True
    mask[60:90, 90:150] = False
    pixels[mask] = [255, 0, 0]
    objects = Objects(np.float32([[90, 60, 210, 140]]), np.int32([0]), lambda number: mask)
    recipe = CropAndResize(
        (256, 384),
        short_sides=(150, 250),
        long_side=380,
        crop_short_sides=(180,),
        crop_sides=(100, 200),
        objects=1,
    )
    checked = 0
    for index in range(40):
        found = recipe(Image.fromarray(pixels), objects, (0, 0, index))
        if found["labels"][0] < 0:
            continue
        x1, y1, x2, y2 = found["boxes"][0]
        crop = found["mask_crops"][0]
        rows, columns = (np.arange(112) + 0.5) / 112, (np.arange(112) + 0.5) / 112
        rows, columns = (y1 + rows * (y2 - y1)).astype(int), (x1 + columns * (x2 - x1)).astype(int)
        shown = found["image"][rows][:, columns, 0] > 127
        assert (shown == crop).mean() > 0.95, index
        checked += 1
    assert checked > 30


def test_the_largest_objects_are_kept():
    boxes = np.float32([[0, 0, 2, 2], [0, 0, 50, 50], [0, 0, 9, 9], [95, 0, 140, 60]])
    objects = Objects(boxes, np.arange(4, dtype="int32"))
    found = Fit((64, 96), objects=2, size=(96, 64))(gradient(96, 64), objects, (0, 0, 0))
    assert found["labels"].tolist() == [1, 2]  # the last one has 60 pixels in sight
    assert "mask_crops" not in found


@pytest.mark.parametrize(("size", "shown"), [((1, 1), (64, 64)), ((8000, 100), (96, 1))])
def test_the_smallest_and_the_largest_images_become_examples(size, shown):
    mask = np.ones(size[::-1], bool)
    objects = Objects(np.float32([[0, 0, *size]]), np.zeros(1, "int32"), lambda number: mask)
    image = Image.new("RGB", size, (9, 200, 9))
    found = Fit((64, 96), objects=2, size=(96, 64))(image, objects, (0, 0, 0))
    assert found["image_shape"].tolist() == [shown[1], shown[0]]
    assert (found["image"][: shown[1], : shown[0]] == (9, 200, 9)).all()
    assert found["boxes"][0].tolist() == [0, 0, *shown] and found["labels"].tolist() == [0, -1]
    assert found["mask_crops"][0].all() and not found["mask_crops"][1].any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Fit((810, 1344)), "`canvas`.*multiples of 32"),
        (lambda: Fit((1344, 832)), "the width not below the height"),
        (lambda: Fit((64, 96)), "`size`.*at most .long, short. = 96, 64"),
        (lambda: CropAndResize((64, 96)), "`long_side`"),
        (lambda: CropAndResize(crop_sides=(600, 384)), "`crop_sides`"),
        (lambda: LargeScaleJitter((832, 1344)), "a square"),
        (lambda: LargeScaleJitter(scale=(2, 1)), "`scale`"),
    ],
)
def test_wrong_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------------- batches


RECIPE = CropAndResize(
    (64, 96),
    short_sides=(48, 64),
    long_side=96,
    crop_short_sides=(48,),
    crop_sides=(40, 60),
    objects=4,
)


def training(dataset, batch, epoch=0, start=0, on_bad=None):
    split = dataset.train.in_batches(batch, lambda size, key: RECIPE.viewed(size, key).is_portrait)
    packed = Packed(RECIPE)
    return list(
        stream.batches(
            split,
            packed,
            packed.batch,
            batch,
            seed=5,
            epoch=epoch,
            start_step=start,
            on_bad=on_bad,
        ).as_numpy_iterator()
    )


def test_batches_have_one_shape_and_are_a_function_of_the_step(shapes):
    dataset = coco(str(shapes))
    batches = training(dataset, 2)
    sides = {batch["images"].shape for batch in batches}
    assert len(batches) == 3 and sides <= {(2, 64, 96, 3), (2, 96, 64, 3)}
    seen = {batch["images"].shape for epoch in range(3) for batch in training(dataset, 2, epoch)}
    assert len(seen) == 2
    for name, value in training(dataset, 2, start=2)[0].items():
        np.testing.assert_array_equal(value, batches[2][name])
    batch = batches[0]
    assert batch["boxes"].shape == (2, 4, 4) and batch["boxes"].dtype == "float32"
    assert batch["mask_crops"].shape == (2, 4, 112, 112) and batch["mask_crops"].dtype == "uint8"
    assert batch["labels"].dtype == "int32" and set(np.unique(batch["labels"])) <= {-1, 0, 1}
    height, width = batch["images"].shape[1:3]
    assert (batch["image_shape"] <= [height, width]).all()
    for row in range(2):
        valid = batch["labels"][row] >= 0
        boxes = batch["boxes"][row]
        assert (boxes[valid, 2:] > boxes[valid, :2]).all() and not boxes[~valid].any()
        assert batch["mask_crops"][row][valid].any((1, 2)).all()


def test_an_order_in_groups_has_every_image():
    for size, batch, seed in ((40, 4, 0), (41, 4, 1), (7, 3, 2), (9, 8, 3), (5, 5, 4)):
        random = np.random.default_rng(seed)
        kinds, order = random.random(size) < 0.4, random.permutation(size)
        found = grouped(order, kinds, batch, np.random.default_rng(seed))
        assert len(found) == size
        whole = found[: size // batch * batch].reshape(-1, batch)
        assert all(len(set(kinds[part])) == 1 for part in whole)
        again = grouped(order, kinds, batch, np.random.default_rng(seed))
        assert set(found) <= set(order) and (found == again).all()


def test_the_rarer_kind_is_trained_on():
    """Three portraits among a hundred landscapes, in batches of sixteen."""
    kinds, seen = np.arange(103) < 3, np.zeros(103, int)
    for epoch in range(40):
        random = np.random.default_rng(epoch)
        found = grouped(random.permutation(103), kinds, 16, random)[:96].reshape(-1, 16)
        assert all(len(set(kinds[part])) == 1 for part in found)
        seen[found] += 1
    assert (seen[:3] > 20).all() and (seen[3:] > 20).all()


@pytest.mark.parametrize("all_bad", [False, True])
def test_a_bad_image_is_replaced_and_said(all_bad, tmp_path):
    root = tiny_objects.write_coco(tmp_path, train=2)
    (root / "train2017" / "000.png").write_bytes(b"no image")
    if all_bad:
        Image.new("RGB", (50, 40)).save(root / "train2017" / "001.png")
    dataset, said = coco(root), []
    on_bad = pairs.BadPairs(dataset.train, coco_objects.verify, report=said.append)
    (batch,) = training(dataset, 2, on_bad=on_bad)
    assert any("000.png cannot be used (Cannot read an image" in line for line in said)
    if all_bad:
        assert any("it has 50 x 40 pixels, in the annotations 96 x 64" in line for line in said)
        assert (batch["labels"] == -1).all() and not batch["boxes"].any()
        assert batch["image_shape"].tolist() == [[64, 96]] * 2
    else:
        for value in batch.values():
            np.testing.assert_array_equal(value[0], value[1])
        assert (batch["labels"] >= 0).any()


def test_sides_that_exif_exchanges_are_said(tmp_path):
    def without_size(content):
        for image in content["images"]:
            del image["width"], image["height"]

    root, exif = tiny_objects.write_coco(tmp_path, train=2), Image.Exif()
    objects = coco(root).train.images[0].objects.encode()
    file = root / "train2017" / "000.png"
    for orientation, hint in ((6, "; its EXIF turns it: save it upright"), (1, "")):
        exif[ExifTags.Base.Orientation] = orientation
        Image.new("RGB", (64, 96)).save(file, exif=exif)
        with pytest.raises(ValueError, match=f"64 x 96 pixels, in the annotations 96 x 64{hint}$"):
            coco_objects.read(file.read_bytes(), objects)
    exif[ExifTags.Base.Orientation] = 3
    tiny_objects.write_coco(tmp_path, train=2, changed=without_size)
    Image.open(file).save(file, exif=exif)
    with pytest.warns(UserWarning, match="Taken as stored: 1 image turned by EXIF"):
        coco(root)


def test_photos_that_exif_turns_without_another_size_are_said(tmp_path, monkeypatch):
    """Sides tell which pixels boxes are of where a photo lies; not where it is upside down."""
    root, exif = tiny_objects.write_coco(tmp_path, train=3), Image.Exif()
    files = [root / "train2017" / f"{number:03}.png" for number in range(3)]
    for file, told in zip(files, (3, 6, 4), strict=True):
        exif[ExifTags.Base.Orientation] = told
        Image.open(file).save(file, exif=exif)
    said = "Taken as stored: 2 images turned by EXIF, so that boxes must .* [^,]*000.png, [^,]*002"
    with pytest.warns(UserWarning, match=said):
        coco(root)
    monkeypatch.setattr(turned, "LOOKED_AT", 1)
    with pytest.warns(UserWarning, match="Taken as stored, of 1 looked at: 1 image turned by EXIF"):
        coco(root)


def test_grey_and_deep_images_are_read(tmp_path):
    root = tiny_objects.write_coco(tmp_path, train=2)
    Image.new("L", (96, 64), 90).save(root / "train2017" / "000.png")
    deep = Image.fromarray(np.full((64, 96), 200, "uint16"))
    deep.save(root / "train2017" / "001.png")
    (batch,) = training(coco(root), 2, on_bad=pairs.refuse_pair(coco_objects.verify))
    assert batch["images"].shape == (2, 64, 96, 3)


# ---------------------------------------------------------------------------- photographs


def photographs(name, root, count=8):
    """Unpacks the first images of each split of a set in ../shared/data."""
    if not (SHARED / f"{name}.zip").exists():
        pytest.skip(f"needs ../shared/data/{name}.zip")
    with zipfile.ZipFile(SHARED / f"{name}.zip") as archive:
        for split in ("train", "val"):
            entries = json.loads(archive.read(f"{name}/instances_{split}.json"))
            entries["images"] = entries["images"][:count]
            kept = {image["id"] for image in entries["images"]}
            entries["annotations"] = [a for a in entries["annotations"] if a["image_id"] in kept]
            (root / f"instances_{split}.json").write_text(json.dumps(entries))
            names = {image["file_name"] for image in entries["images"]}
            for member in archive.namelist():
                if "/images/" in member and member.rpartition("/")[2] in names:
                    path = root / member.removeprefix(f"{name}/")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(member))
    return root


@pytest.mark.parametrize(("name", "classes"), [("coco200", 80), ("pennfudan", 1)])
def test_photographs_and_their_masks(name, classes, tmp_path):
    """At half of their size, a mask covers the same share of its box."""
    dataset = quiet(photographs(name, tmp_path))
    assert len(dataset.class_names) == classes and dataset.validation.size == 8
    truth = dataset.validation.truth()
    split = dataset.validation
    checked = 0
    for image, path in zip(split.images, split.paths, strict=True):
        picture, objects = coco_objects.read(Path(path).read_bytes(), image.objects.encode())
        assert picture.size == image.size
        width, height = picture.size
        fit = Fit((640, 640), size=(max(width, height) // 2, min(width, height) // 2))
        found = fit(picture, objects, (0, 0, 0))
        own = [a for a in truth["annotations"] if a["image_id"] == image.id and not a["iscrowd"]]
        scale = np.divide(found["image_shape"][::-1], picture.size)
        for row, annotation in enumerate(own[:100]):
            x, y, w, h = annotation["bbox"]
            corners = np.multiply([x, y, x + w, y + h], [*scale, *scale])
            np.testing.assert_allclose(found["boxes"][row], corners, rtol=1e-5, atol=1e-3)
            if min(w, h) >= 32:
                share = annotation["area"] / (w * h)
                assert found["mask_crops"][row].mean() == pytest.approx(share, abs=0.02)
                checked += 1
    assert checked >= 8

"""Masks as people have them: their values and colours are looked at before a training."""

import keras
import numpy as np
import pytest
from PIL import ExifTags, Image

from training.data import DataError, pairs
from training.data.mask_labels import colour_text, colours_of, label_map

if keras.backend.backend() != "torch":
    pytest.skip("the same on every backend", allow_module_level=True)

NAMES = ("background", "lesion")
SQUARE = np.zeros((12, 10), "uint8")
SQUARE[3:9, 2:7] = 1


def write(root, *masks, ending="", suffix=".png"):
    """Writes an image and a mask, a Pillow image or an array, for each of `masks`."""
    for number, mask in enumerate(masks):
        mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        image = Image.new("RGB", mask.size, (number, 0, 0))
        for folder, name, picture in (
            ("images", f"{number}.png", image),
            ("masks", f"{number}{ending}{suffix}", mask),
        ):
            (root / folder).mkdir(exist_ok=True)
            picture.save(root / folder / name)
    return root


def loaded(root, names=NAMES, **labels):
    return pairs.folders(root, names, "images", "masks", labels=label_map(names, **labels))


def test_black_and_white_masks_are_not_taken_for_ignored_pixels(tmp_path):
    write(tmp_path, *[SQUARE * 255] * 4)
    with pytest.raises(DataError, match=r"only the class 'background' of 2 occurs") as caught:
        loaded(tmp_path)
    assert "the values in the masks are 0, 255. If these are the 2 classes" in str(caught.value)
    assert str(caught.value).endswith("give --label_values=0,255.")
    dataset = loaded(tmp_path, values="0,255")
    assert dataset.summary == (
        "2 classes; 4 images in images/ with masks in masks/, every 10th of them for validation. "
        "3 of 3 training masks were read: background 75.0 %, lesion 25.0 %; 0.0 % of the pixels "
        "do not count."
    )


@pytest.mark.parametrize(
    "values, labels, message",
    [
        ((1, 2), {}, r"values \[2\]; allowed are 0 to 1 .* If the first class .* --first_label=1"),
        ((0, 1), {"first": 1}, r"only the class 'background' .* give --first_label=0"),
        ((0, 128), {}, r"values \[128\]; .* give --label_values=0,128"),
        ((255, 255), {}, "no class at all of 2 occurs in them, beside pixels .*100.0 %"),
        ((0, 0), {}, "only the class 'background'"),
    ],
)
def test_what_contradicts_the_configuration_is_refused(values, labels, message, tmp_path):
    write(tmp_path, *[np.array(values, "uint8")[SQUARE]] * 3)
    with pytest.raises(DataError, match=message) as caught:
        loaded(tmp_path, **labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values, labels, advice",
    [
        ((0, 1, 2, 9, 11), {}, "If 11 does not count, give --ignored_label=11."),
        ((1, 2, 11, 12), {"ignored": 12}, "give --first_label=1."),
        ((1, 2, 11, 255), {}, "give --first_label=1."),
        ((0, 10, 20, 30), {}, "check --class_names, --first_label, --ignored_label and"),
    ],
)
def test_the_advice_is_the_likeliest_flag(values, labels, advice, tmp_path):
    """Also where not every class occurs in the sample, and only in some masks what is wrong."""
    sound = np.array([[value for value in values if value < 11]], "uint8")
    write(tmp_path, *[sound] * 5, *[np.array([values], "uint8")] * 2)
    with pytest.raises(DataError, match="of 6 masks cannot be used") as caught:
        loaded(tmp_path, tuple("abcdefghijk"), **labels)
    assert advice in str(caught.value) and "label_values=" not in str(caught.value)


def test_masks_that_were_blurred_are_told(tmp_path):
    write(tmp_path, *[np.arange(120, dtype="uint8").reshape(12, 10)] * 3)
    with pytest.raises(DataError, match="hold 120 values or more, as after JPEG or a resize"):
        loaded(tmp_path)


def test_a_class_that_never_occurs_is_said(tmp_path):
    write(tmp_path, *[SQUARE] * 3)
    summary = loaded(tmp_path, (*NAMES, "vessel")).summary
    assert summary.endswith("Of the 3 classes these do not occur in them: vessel.")


def test_a_few_wrong_masks_are_said_and_do_not_end_the_run(tmp_path):
    write(tmp_path, *[SQUARE] * 5, SQUARE * 7)
    summary = loaded(tmp_path).summary
    assert "Not usable: 1 mask, the first is " in summary and "values [7]" in summary


def test_colours_of_a_file_are_classes(tmp_path):
    colours = np.array([[0, 0, 0], [200, 10, 10]], "uint8")
    write(tmp_path, *[colours[SQUARE]] * 3)
    with pytest.raises(DataError, match="a picture in colours .* with --label_colours"):
        loaded(tmp_path)
    (tmp_path / "colours.csv").write_text("name,r,g,b\nbackground,0,0,0\nlesion, 200, 10, 10\n")
    text = colour_text(str(tmp_path / "colours.csv"))
    assert "lesion 25.0 %" in loaded(tmp_path, colours=text).summary
    with pytest.raises(DataError, match=r"colours \[\(0, 0, 0\)\], which belong to no class"):
        loaded(tmp_path, colours="1 1 1 background; 200 10 10 lesion")


@pytest.mark.parametrize(
    "text, pairs",
    [
        ("64 128 64\t\ta\n0 0 0 b", (((64, 128, 64), 0), ((0, 0, 0), 1))),
        ("a 1 2 3; b,4,5,6; void 0 0 0", (((1, 2, 3), 0), ((4, 5, 6), 1), ((0, 0, 0), 255))),
        ("1 1 1 A\n2 2 2 a\n3 3 3 b", (((1, 1, 1), 0), ((2, 2, 2), 0), ((3, 3, 3), 1))),
    ],
)
def test_files_of_colours(text, pairs):
    assert colours_of(text, ("a", "b")) == pairs


@pytest.mark.parametrize(
    "labels, message",
    [
        ({"values": "0;255"}, "must be whole numbers with commas between them"),
        ({"values": "0,1,2"}, "`values` must be 2 different numbers"),
        ({"colours": "1 2 3 background"}, r"no colour for the classes \['lesion'\]"),
        ({"colours": "1 2 background; 1 2 3 lesion"}, "has the line '1 2 background'"),
        ({"colours": "300 2 3 background; 1 2 3 lesion"}, r"numbers in \[0, 255\]"),
    ],
)
def test_values_and_colours_that_cannot_be_read(labels, message):
    with pytest.raises(ValueError, match=message):
        label_map(NAMES, **labels)
    with pytest.raises(ValueError, match="'missing.csv' is no file"):
        colour_text("missing.csv")


def test_masks_may_have_names_with_an_ending(tmp_path):
    write(tmp_path, *[SQUARE] * 3, ending="_mask")
    (split,) = {loaded(tmp_path).train}
    assert [path[-10:] for path in split.mask_paths] == ["1_mask.png", "2_mask.png"]


def test_files_that_could_be_either_are_refused(tmp_path):
    write(tmp_path, *[SQUARE] * 3)
    (tmp_path / "images/1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1.jpg and .*1.png have one name: keep one of them"):
        loaded(tmp_path)


def test_jpeg_masks_are_refused_with_the_reason(tmp_path):
    write(tmp_path, *[SQUARE] * 3, suffix=".jpg")
    with pytest.raises(DataError, match="it has .jpg. JPEG changes the values of masks: save them"):
        loaded(tmp_path)


def test_an_image_in_both_splits_is_said(tmp_path):
    write(tmp_path, *[SQUARE] * 3)
    (tmp_path / "images/2.png").write_bytes((tmp_path / "images/0.png").read_bytes())
    with pytest.warns(UserWarning, match="In train and in validation: 1 image, .*2.png = .*0.png"):
        loaded(tmp_path)


def test_pairs_have_a_fingerprint(tmp_path):
    write(tmp_path, *[SQUARE] * 3)
    then = loaded(tmp_path).fingerprint()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert loaded(moved).fingerprint() == then
    (moved / "masks/2.png").write_bytes(b"other")
    assert pairs.pair_split("train", moved, "images", "masks").fingerprint() != then["train"]


def test_photos_that_exif_turns_without_another_size_are_said(tmp_path):
    """The sides of a photo that lies tell which pixels its mask is of; upside down they do not."""
    write(tmp_path, *[SQUARE] * 4)
    exif = Image.Exif()
    for number, told in enumerate((1, 3, 6, 4)):
        exif[ExifTags.Base.Orientation] = told
        path = tmp_path / "images" / f"{number}.png"
        Image.open(path).save(path, exif=exif)
    (tmp_path / "images/0.png").write_bytes(b"no image")
    said = "Taken as stored: 2 images turned by EXIF, so that masks must .* [^,]*1.png, [^,]*3.png"
    with pytest.warns(UserWarning, match=said):
        loaded(tmp_path)

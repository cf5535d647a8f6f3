"""The command `keras-convnext`, as its user types it: good input, bad input, exit codes."""

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import ConvNeXt, Variant, cli, labels, untrusted
from keras_convnext.classifier import Classifier
from keras_convnext.cli import classifier_rows, detector_rows, upernet_rows, verify
from keras_convnext.cli import flags as cli_flags
from keras_convnext.cli.main import _parser
from keras_convnext.cli.predict import images_of
from keras_convnext.preprocessing import EvalTransform, evaluation_transform
from keras_convnext.pretrained import files, registry, resolve, saving
from keras_convnext.segmentation import checkpoints
from tests import hub_server
from tests.backends import on_one_backend, randomise
from tests.test_golden import GOLDEN

ROOT = Path(__file__).resolve().parents[1]
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is absent")
COMMANDS = ("list", "info", "predict", "explain", "segment", "detect", "convert", "verify", "cache")
ORIGINAL_ROWS = registry.rows()
PHOTOS = ("a.png", "b.JPG", "deeper/c.webp")
NAMES = ("ant", "bee", "cat", "dog", "emu")
SIDE = 32  # pixels of the models here


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of three images, one of them deeper, and of a file that is none."""
    folder = tmp_path_factory.mktemp("given") / "photos"
    (folder / "deeper").mkdir(parents=True)
    for number, name in enumerate(PHOTOS):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), "uint8")
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """`small.keras`: a whole model with 5 classes that is quickly loaded."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    variant = Variant("small", (1,), (8,))
    saving.save_keras(randomise(ConvNeXt(variant, classes=5, input_shape=(SIDE, SIDE, 3))), path)
    return path


@pytest.fixture(scope="module")
def given(tmp_path_factory, photos):
    """`t2.keras` and `t2.safetensors` of one model, and its probabilities of the photos."""
    folder = tmp_path_factory.mktemp("given")
    model = ConvNeXt("test_convnext2", classes=5, input_shape=(SIDE, SIDE, 3))
    randomise(model, scale=0.3)
    saving.save_keras(model, folder / "t2.keras")
    saving.save_weights(model, "test_convnext2", folder / "t2.safetensors")
    (folder / "names.txt").write_text("\n".join(NAMES))
    images = np.stack([EvalTransform(SIDE, 0.875)(photos / name) for name in PHOTOS])
    return folder, model.predict_on_batch(images)


@pytest.fixture
def run(capsys):
    def run(*arguments):
        """Returns the exit code, stdout and stderr."""
        code = cli.main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


def usage_error(run, capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


# ---------------------------------------------------------------- every command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_can_be_parsed(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "--json" in text
    examples = text.split("examples:")[1].strip().splitlines()
    assert examples
    for example in examples:
        words = example.split("#")[0].split("<")[0].split()
        assert words[:2] == ["keras-convnext", command]
        assert callable(_parser().parse_args(words[1:]).run)


@on_one_backend
def test_list_is_a_process_that_needs_no_keras():
    """Of the package's own `__init__`, which imports the layers, only the place is used."""
    script = (
        "import runpy, sys, types; package = types.ModuleType('keras_convnext');"
        f"package.__path__ = [{str(ROOT / 'keras_convnext')!r}];"
        "sys.modules['keras_convnext'] = package; sys.argv[1:] = ['list', '--json'];"
        "sys.exit = lambda code: print('keras' in sys.modules, code, file=sys.stderr);"
        "runpy.run_module('keras_convnext.cli', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "False 0\n")
    assert len(json.loads(done.stdout)) == len(ORIGINAL_ROWS)


def test_a_reader_that_stops_early_is_no_error(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(["list", "--json"]) == 1
        pipe.write("the interpreter's last flush")  # must find nobody to complain to
    assert capsys.readouterr().err == ""


def test_interruption_has_its_own_code(run, monkeypatch):
    def interrupted(**conditions):
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "search", interrupted)
    assert run("list") == (130, "", "Interrupted. No file was left half written.\n")


@on_one_backend
def test_wrong_usage_is_two_lines(run, capsys):
    """The fault, and where the help is; not the usage of everything."""
    for arguments in (["lost"], [], ["predict"], ["predict", "-k", "0", "x"], ["list", "--sort=x"]):
        lines = usage_error(run, capsys, *arguments).splitlines()
        assert len(lines) == 2 and "--help` shows" in lines[1], lines
    said = usage_error(run, capsys, "predict", "--modle=x", "a.jpg")
    assert "keras-convnext predict: unknown argument --modle=x; did you mean --model?" in said
    assert "unknown argument x.jpg" in usage_error(run, capsys, "list", "x.jpg")


@on_one_backend
@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_a_meaning_and_shows_its_default(command):
    (choice,) = (a for a in _parser()._actions if a.dest == "command")
    for action in choice.choices[command]._actions:
        text = re.sub(r"\(default.*?\)", "", action.help or "")
        assert len(text.split()) >= 2 or action.dest == "help", action.dest
        if action.default not in (None, False, "==SUPPRESS=="):
            assert "%(default)s" in action.help, action.dest


def test_no_command_and_unknown_ones_are_wrong_usage(run, capsys):
    assert "COMMAND" in usage_error(run, capsys)
    assert "invalid choice: 'lost'" in usage_error(run, capsys, "lost")


# ---------------------------------------------------------------- list, info


def test_list_filters_and_sorts(run):
    code, out, _ = run(
        *("list", "--label-set", "imagenet1k", "--max-params", "30M", "--min-top1", "83"),
        *("--sort", "top1", "--json"),
    )
    rows = json.loads(out)
    assert code == 0 and rows
    expected = [
        row.name
        for row in ORIGINAL_ROWS
        if row.label_set == "imagenet1k" and row.params <= 30e6 and (row.top1 or 0) >= 83
    ]
    assert sorted(row["name"] for row in rows) == sorted(expected)
    figures = [row["top1"] for row in rows]
    assert figures == sorted(figures, reverse=True)


def test_list_prints_one_line_per_row_where_there_is_no_terminal(run):
    code, out, err = run("list", "--variant", "convnext_tiny_hnf")
    lines = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and err == ""
    assert lines[0] == ["name", "params", "size", "top-1", "licence", "where"]
    assert lines[1][:3] == ["convnext_tiny_hnf.a2h_in1k", "28.6M", "224"]
    assert lines[1][4:] == ["Apache-2.0", "hf://timm/convnext_tiny_hnf.a2h_in1k"]


def test_list_on_a_terminal_is_a_table(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run("list", "--variant", "convnext_tiny_hnf")
    assert "\t" not in out and "\x1b[1m" in out and "convnext_tiny_hnf.a2h_in1k" in out


def test_list_of_nothing_says_so(run):
    code, out, err = run("list", "--size", "224", "--min-top1", "99")
    assert code == 0 and out.count("\n") == 1 and "No checkpoint meets" in err


def test_list_refuses_what_no_row_has(run, capsys):
    code, out, err = run("list", "--licence", "gpl")
    assert (code, out) == (1, "") and "Unknown licence 'gpl'" in err and "MIT" in err
    for wrong in (["--max-params", "many"], ["--size", "0"], ["--variant", "convnext_tinny"]):
        assert wrong[1] in usage_error(run, capsys, "list", *wrong)


def test_info_tells_all_of_a_row(run):
    code, out, _ = run("info", "convnext_tiny")
    facts = [line.split("\t", 1) for line in out.splitlines()]
    assert code == 0 and ["name", "convnext_tiny.fb_in1k"] in facts
    assert ["evaluation", "short side 256, centre crop of 224, bicubic"] in facts
    assert ["parameters", "28,589,128"] in facts and ["cached", "no"] in facts
    assert sum(field == "source" for field, _ in facts) == 4
    row = json.loads(run("info", "convnext_tiny.fb_in1k", "--json")[1])
    assert row["architecture"]["depths"] == [3, 3, 9, 3] and row["cached"] is None


def test_every_row_can_be_shown():
    for row in ORIGINAL_ROWS:
        facts = list(classifier_rows.facts(row))
        assert all(type(value) is str and value for fact in facts for value in fact), row.name
        assert json.loads(json.dumps(classifier_rows.as_dict(row)))["name"] == row.name


def test_published_upernets_are_listed(run):
    flags = ("list", "--task", "segmentation", "--sort", "mean_iou", "--size", "512")
    rows = json.loads(run(*flags, "--json")[1])
    assert {row["name"] for row in rows} == {r.name for r in checkpoints.rows() if r.size == 512}
    scores = [row["mean_iou"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    lines = run(*flags, "--variant", "convnext_tiny", "--licence", "mit")[1].splitlines()
    assert lines[0].split("\t") == list(upernet_rows.COLUMNS)
    found = "upernet_convnext_tiny.fb_in1k_ft_ade20k_512 60.2M 512 46.00 46.70 MIT"
    assert lines[1].split("\t")[:6] == found.split() and len(lines) == 2
    code, out, err = run("list", "--task", "segmentation", "--max-params", "1M")
    assert code == 0 and out.count("\n") == 1 and "No UperNet meets" in err


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (["--task=segmentation", "--min-top1=80"], 2, "--min-top1 is for classifiers only"),
        (["--task=segmentation", "--sort=top1"], 2, "UperNets are sorted by params or mean_iou"),
        (["--sort=mean_iou"], 2, "classifiers are sorted by params or top1"),
        (["--task=segmentation", "--licence=apache"], 1, "Nearest: Apache-2.0"),
        (["--task=segmentation", "--label-set=ade"], 1, "Known: ade20k"),
        (["--sort=box_ap"], 2, "box_ap is for another --task; classifiers are sorted by params"),
        (["--task=detection", "--sort=top1"], 2, "detectors are sorted by params or box_ap"),
        (["--task=detection", "--family=v1"], 2, "--family is for classifiers only"),
        (["--task=detection", "--label-set=ade20k"], 1, "Known: coco"),
    ],
)
def test_what_a_task_has_not_is_refused(run, flags, status, message):
    code, out, err = run("list", *flags)
    assert (code, out) == (status, "") and message in err


def test_published_detectors_are_listed(run):
    flags = ("list", "--task", "detection", "--sort", "box_ap")
    rows = json.loads(run(*flags, "--json")[1])
    assert {row["name"] for row in rows} == {r.name for r in registry.rows("detection")}
    assert [row["box_ap"] for row in rows][:3] == [55.2, 54.8, 54.0]
    lines = run(*flags, "--variant", "convnext_tiny", "--licence", "mit")[1].splitlines()
    assert lines[0].split("\t") == list(detector_rows.COLUMNS)
    found = "cascade_mask_rcnn_convnext_tiny.fb_in1k_ft_coco 85.9M 50.4 43.7 MIT"
    assert lines[1].split("\t")[:5] == found.split() and len(lines) == 3
    code, out, err = run("list", "--task", "detection", "--max-params", "1M")
    assert code == 0 and out.count("\n") == 1 and "No detector meets" in err


def test_info_tells_all_of_a_detector(run):
    facts = run("info", "mask_rcnn_convnext_tiny")[1].splitlines()
    for fact in (
        "detector\tMask R-CNN",
        "parameters\t48,095,376",
        "classes\t80 (coco)",
        "evaluation\tshort side 800, long side 1333 at most",
        "cached\tno",
    ):
        assert fact in facts
    assert (
        json.loads(run("info", "cascade_mask_rcnn_convnext_base", "--json")[1])["mask_ap"] == 46.9
    )
    code, _, err = run("info", "cascade_mask_rcnn_convnext_tinny")
    assert code == 1 and "cascade_mask_rcnn_convnext_tiny.fb_in1k_ft_coco" in err
    for row in registry.rows("detection"):
        assert all(
            type(value) is str and value for fact in detector_rows.facts(row) for value in fact
        )


def test_info_tells_all_of_an_upernet(run, tmp_path, monkeypatch):
    facts = run("info", "upernet_convnext_tiny")[1].splitlines()
    for fact in ("parameters\t60,242,636", "classes\t150 (ade20k)", "cached\tno"):
        assert fact in facts
    assert json.loads(run("info", "upernet_convnext_tiny", "--json")[1])["crop"] == 512
    file = tmp_path / "upernet_mine.safetensors"
    file.touch()
    monkeypatch.chdir(tmp_path)
    code, _, err = run("info", file.name)
    assert code == 1 and "use `keras-convnext verify`" in err
    code, _, err = run("info", "upernet_convnext_tinny")
    assert code == 1 and "upernet_convnext_tiny.fb_in1k_ft_ade20k_512" in err
    for row in checkpoints.rows():
        assert all(
            type(value) is str and value for fact in upernet_rows.facts(row) for value in fact
        )


def test_info_of_a_wrong_name_has_the_nearest(run):
    code, _, err = run("info", "convnext_tiny.fb_in1")
    assert code == 1 and "convnext_tiny.fb_in1k" in err and "Traceback" not in err
    code, _, err = run("info", "convnxt_tiny")
    assert code == 1 and "convnext_tiny" in err and "registry" not in err
    assert "All names: `keras-convnext list`.\n" in run("info", "nothing_like_it")[2]
    code, _, err = run("info", "fb_in1k")
    assert code == 1 and "say which: " in err
    assert run("info", "fb_in1k", "--variant", "convnext_small")[0] == 0


# ---------------------------------------------------------------- transforms


@needs_golden
@pytest.mark.parametrize(
    "name, size", [("convnext_tiny.fb_in1k", 224), ("convnext_base.fb_in22k_ft_in1k_384", 384)]
)
def test_a_row_s_transform_gives_the_official_pixels(name, size):
    transform = registry.find(name).transform()
    with np.load(GOLDEN / "eval_pipeline.npz") as expected:
        keys = [key for key in expected.files if key.endswith(f"/{size}")]
        for key in keys[:4]:
            photo = next((GOLDEN / "photos").glob(key.split("/")[0].split(".")[0] + ".*"))
            np.testing.assert_array_equal(transform(photo), expected[key], err_msg=key)
    assert len(keys) > 10


def transform_of(*flags, row=None):
    arguments = _parser().parse_args(["predict", "x.jpg", *flags])
    row = registry.find(row) if row else None
    return evaluation_transform(row, **cli_flags.transform_of(arguments))


def test_flags_change_the_transform():
    assert transform_of().in_words() == "short side 256, centre crop of 224, bicubic"
    assert transform_of("--size", "384").in_words() == "resized to 384 x 384, bicubic"
    assert transform_of("--size", "384", "--crop-pct", "0.5").short_side == 768
    assert transform_of("--resize", "squash").resize == "squash"
    tiny = "convnext_tiny.fb_in1k"
    assert transform_of(row=tiny).short_side == 256
    assert transform_of("--size", "288", row=tiny).short_side == 288  # its crop at that size
    assert transform_of("--interpolation", "bilinear", row=tiny).short_side == 256
    for outside in ("0", "1.5"):
        with pytest.raises(ValueError, match="crop_pct"):
            transform_of("--crop-pct", outside)


# ---------------------------------------------------------------- predict


def test_predict_a_folder_with_names_as_csv(run, given, photos, tmp_path):
    folder, expected = given
    output = tmp_path / "out.csv"
    code, out, err = run(
        *("predict", "--model", folder / "t2.safetensors", "--size", SIDE, "-k", 2),
        *("--labels", folder / "names.txt", "--output", output, photos),
    )
    assert (code, out, err) == (0, "", "")
    rows = list(csv.DictReader(output.open()))
    assert [row["image"] for row in rows] == [str(photos / n) for n in PHOTOS for _ in range(2)]
    best = np.argsort(-expected, axis=-1)[:, :2]
    assert [int(row["class"]) for row in rows] == best.ravel().tolist()
    assert [row["name"] for row in rows] == [NAMES[index] for index in best.ravel()]
    probabilities = np.reshape([float(row["probability"]) for row in rows], best.shape)
    np.testing.assert_allclose(probabilities, np.take_along_axis(expected, best, -1), atol=2e-6)


def test_a_whole_model_predicts_in_batches_of_any_size(run, given, photos):
    folder, expected = given
    code, out, _ = run(
        *("predict", "--model", folder / "t2.keras", "--batch-size", 2, "--json", photos)
    )
    results = json.loads(out)["results"]
    assert code == 0 and len(results) == 3
    for result, row in zip(results, expected, strict=True):
        order = [best["class"] for best in result["predictions"]]
        probabilities = [best["probability"] for best in result["predictions"]]
        assert order == np.argsort(-row).tolist()
        np.testing.assert_allclose(probabilities, row[order], atol=2e-6)
        assert sum(probabilities) == pytest.approx(1, abs=1e-6)


def test_a_corrupt_file_is_named_and_the_others_are_predicted(run, small, photos, tmp_path):
    photo = (photos / "b.JPG").read_bytes()
    (tmp_path / "good.jpg").write_bytes(photo)
    (tmp_path / "broken.jpg").write_bytes(photo[:1000])
    code, out, err = run("predict", "--model", small, "-k", 1, tmp_path)
    assert code == 1
    assert "broken.jpg" in err and "1 of 2 images could not be read" in err
    assert [line.split("\t")[0] for line in out.splitlines()[1:]] == [str(tmp_path / "good.jpg")]
    code, out, _ = run("predict", "--model", small, "--json", tmp_path)
    results = json.loads(out)["results"]
    assert code == 1 and ["error" in result for result in results] == [True, False]


def test_predict_reads_stdin(run, small, photos, monkeypatch):
    photo = photos / "a.png"
    with photo.open("rb") as binary, io.TextIOWrapper(binary) as text:
        monkeypatch.setattr(sys, "stdin", text)
        code, out, err = run("predict", "--model", small, "--json", "-", photo)
    assert (code, err) == (0, "")
    results = json.loads(out)["results"]
    assert [result["image"] for result in results] == ["-", str(photo)]
    assert results[0]["predictions"] == results[1]["predictions"]


def test_what_predict_cannot_do_is_said_before_a_model_is_loaded(
    run, capsys, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(keras.saving, "load_model", None)
    (tmp_path / "x.keras").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    model, photo = ("--model", tmp_path / "x.keras"), photos / "a.png"
    code, _, err = run("predict", *model, tmp_path / "empty")
    assert code == 1 and "No images in" in err and ".jpeg" in err
    code, _, err = run("predict", *model, tmp_path / "gone.jpg")
    assert code == 1 and "No such image" in err and "gone.jpg" in err
    assert run("predict", *model, "-", "-")[0] == 2
    for output, what in ((tmp_path / "no" / "x.csv", "make it first"), (tmp_path, "is a folder")):
        code, _, err = run("predict", *model, "--output", output, photo)
        assert code == 1 and what in err
    code, _, err = run("predict", "--model", tmp_path / "empty", photo)
    assert code == 1 and "is a folder, and no best.keras is in it" in err
    assert run("predict", *model, "--variant", "convnext_tiny", photo)[0] == 2
    assert "whole number" in usage_error(run, capsys, "predict", "-k", "0", photo)
    for name, what in (("clip_laion2b", "CLIP embedding"), ("dinov3_lvd1689m", "features")):
        code, _, err = run("predict", "--model", f"convnext_base.{name}", photo)
        assert code == 1 and what in err


@pytest.mark.parametrize("command", ["predict", "explain", "segment", "detect"])
def test_a_video_is_refused_with_what_to_do(run, command):
    code, _, err = run(command, "my clip.MP4")
    assert code == 2 and "my clip.MP4 is a video, and only images are read here" in err
    assert "`ffmpeg -i 'my clip.MP4' frames/%05d.jpg`" in err


def test_of_an_animation_it_is_said_that_one_frame_is_read(tmp_path, capsys):
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 255)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "still.gif")
    (tmp_path / "damaged.webp").write_bytes(b"RIFF")
    assert len(images_of([str(tmp_path)])) == 3
    said = f"Note: {tmp_path / 'moves.gif'} is an animation, of which only the first frame is read."
    assert capsys.readouterr().err == said + "\n"


def test_predict_offline_without_the_weights_says_how_to_get_them(run, photos):
    code, out, err = run("predict", photos / "a.png")
    assert (code, out) == (1, "")
    assert "convnext_tiny.fb_in1k" in err and "KERAS_CONVNEXT_OFFLINE" in err and "->" in err


def test_models_that_keras_cannot_load_or_that_are_no_classifiers(run, small, photos, tmp_path):
    def message(path, code, *flags):
        got, _, err = run("predict", "--model", path, *flags, photos / "a.png")
        assert got == code and "Traceback" not in err
        return err

    broken, code, flat, grey = (tmp_path / f"{name}.keras" for name in ("b", "c", "f", "g"))
    broken.write_bytes(small.read_bytes()[:5000])
    assert "cannot load this model" in message(broken, 1)
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, 0, 0])(inputs)).save(code)
    assert "cannot load this model" in message(code, 1)
    keras.Model(inputs, keras.layers.Flatten()(inputs)).save(flat)
    assert "8 pixels" in message(flat, 2, "--size", 9)
    inputs = keras.Input((8, 8, 4))
    keras.Model(inputs, keras.layers.Flatten()(inputs)).save(grey)
    assert "square RGB" in message(grey, 1)


def test_logits_of_an_own_model_become_probabilities(run, photos, tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(0.01)(inputs))
    keras.Model(inputs, keras.layers.Dense(3)(x)).save(tmp_path / "own.keras")
    _, out, _ = run("predict", "--model", tmp_path / "own.keras", "--json", photos / "a.png")
    best = json.loads(out)["results"][0]["predictions"]
    assert len(best) == 3 and sum(b["probability"] for b in best) == pytest.approx(1)


@on_one_backend
def test_own_models_are_shown_as_certain_as_they_are(run, photos, tmp_path):
    """Probabilities go through no second softmax; one logit is of two classes."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(0.01)(inputs))
    certain = keras.layers.Dense(3, bias_initializer=keras.initializers.Constant([9, 0, 0]))(x)
    softmax = keras.Sequential([keras.layers.Dropout(0.1), keras.layers.Softmax()])
    one = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(-2))(x)
    kinds = ((softmax(certain), lambda p: p), (one, lambda z: 1 / (1 + np.exp(-z))))
    for outputs, function in kinds:
        model = keras.Model(inputs, outputs)
        model.save(tmp_path / "own.keras")
        flags = ("--model", tmp_path / "own.keras", "--json", photos / "a.png")
        best = json.loads(run("predict", *flags)[1])["results"][0]["predictions"]
        pixels = EvalTransform(8, 0.875)(photos / "a.png")[None]
        expected = function(np.asarray(model.predict_on_batch(pixels), "float64"))[0]
        expected = np.array([1 - expected[0], expected[0]]) if len(expected) == 1 else expected
        assert [b["class"] for b in best] == np.argsort(-expected).tolist()
        shown = [b["probability"] for b in best]
        np.testing.assert_allclose(shown, np.sort(expected)[::-1], rtol=1e-5)


# ---------------------------------------------------------------- explain


LAYER = "stage0_block0"  # the last stage has one pixel


@pytest.mark.parametrize(
    "method",
    [
        "grad-cam",
        pytest.param("eigen-cam", marks=on_one_backend),
        pytest.param("receptive-field", marks=on_one_backend),
    ],
)
def test_explain_shows_the_image_and_what_is_seen(run, given, photos, tmp_path, method):
    folder, probabilities = given
    output = tmp_path / "seen.png"
    code, out, err = run(
        *("explain", "--model", folder / "t2.keras", "--labels", folder / "names.txt"),
        *("--method", method, "--layer", LAYER, "--json", "--output", output, photos / "a.png"),
    )
    assert (code, err) == (0, "")
    best = int(probabilities[0].argmax())
    expected = {"method": method, "layer": LAYER, "class": best, "name": NAMES[best]}
    report = json.loads(out)
    assert {key: report[key] for key in expected} == expected
    assert report["probability"] == pytest.approx(probabilities[0].max(), abs=1e-3)
    with Image.open(output) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (256, 256 + 4 + 256, 3)  # 32 pixels, enlarged 8 times
    seen = EvalTransform(SIDE, 0.875)(photos / "a.png")
    np.testing.assert_array_equal(pixels[::8, :256:8], seen)
    assert (pixels[:, 260:] != pixels[:, :256]).any()


@on_one_backend
def test_explain_of_a_class_and_a_layer_from_stdin(run, small, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open(photos / "a.png", "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))
        flags = ("--class", 0, "--layer", "stem")
        code, out, err = run("explain", "--model", small, *flags, "-")
    assert (code, err) == (0, "") and (tmp_path / "stdin_grad-cam.png").exists()
    facts = dict(line.split("\t") for line in out.splitlines())
    assert (facts["layer"], facts["class"]) == ("stem", "0")


@on_one_backend
def test_what_explain_cannot_do_is_said(run, small, photos, capsys):
    model, photo = ("explain", "--model", small), photos / "a.png"
    code, _, err = run(*model, photos)
    assert code == 2 and "one image at a time" in err
    code, _, err = run(*model, "--output", "seen.jpg", photo)
    assert code == 2 and ".png" in err
    code, _, err = run(*model, "--output", photos / "nowhere" / "seen.png", photo)
    assert code == 1 and "make it first" in err
    code, _, err = run(*model, "--method", "eigen-cam", "--class", 1, photo)
    assert code == 2 and "belongs to grad-cam" in err
    code, _, err = run(*model, "--class", 5, photo)
    assert code == 2 and "classes 0 to 4" in err
    code, _, err = run(*model, "--layer", "stage1_block0", photo)
    assert code == 1 and "stage0_block0" in err
    assert "whole number" in usage_error(run, capsys, *model, "--class", "-1", photo)


# ---------------------------------------------------------------- names of classes


def test_names_from_files(tmp_path):
    path = tmp_path / "names"
    for text, expected in (
        ("tench\n goldfish \n", ((None, "tench"), (None, "goldfish"))),
        ('["a", "b"]', ((None, "a"), (None, "b"))),
        ('{"1": "b", "0": ["n00000001", "a"]}', (("n00000001", "a"), (None, "b"))),
    ):
        path.write_text(text)
        assert labels.read_names(path) == expected
    refused = ("", "[1, 2]", '{"0": "a", "2": "b"}', '{"0": "a"', "[[1, 2]]", "[" * 100_000)
    for text in refused:
        path.write_text(text)
        with pytest.raises(ValueError, match="names"):
            labels.read_names(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="names of classes: it must be UTF-8 text"):
        labels.read_names(path)
    with open(path, "wb") as file:
        file.truncate(untrusted.LARGEST + 1)
    with pytest.raises(ValueError, match="has 16777217 bytes, of which at most 16777216 are read"):
        labels.read_names(path)


def test_another_number_of_names_is_refused(run, small, photos, tmp_path):
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    code, _, err = run("predict", "--model", small, "--labels", "gone.txt", photos / "a.png")
    assert code == 1 and "No file of names of classes at 'gone.txt'." in err
    names = ("--labels", tmp_path / "names.txt")
    code, _, err = run("predict", "--model", small, *names, photos / "a.png")
    assert code == 1 and "names 2 classes" in err and "has 5" in err


def test_imagenet_names_are_keras_names():
    """To the byte: of the file that keras.applications downloads, this is size and hash."""
    names = labels.class_names("imagenet1k")
    file = json.dumps({str(index): entry for index, entry in enumerate(names)}).encode()
    assert len(file) == 35363 and hashlib.sha256(file).hexdigest() == (
        "a1e7a966a1f601d39e4b43e119b3e7dd4a2ad3ea08cf69847cbaf021013767bc"
    )
    assert labels.class_names("imagenet22k") is None and labels.class_names(None) is None


@on_one_backend
def test_classes_of_published_weights_have_names_without_a_request(run, photos, tmp_path):
    model = randomise(ConvNeXt(Variant("small", (1,), (8,)), input_shape=(SIDE, SIDE, 3)))
    model.published = "convnext_tiny.fb_in1k"
    assert Classifier(model).names[207] == ("n02099601", "golden_retriever")
    model.save(tmp_path / "m.keras")
    code, out, err = run("predict", "--model", tmp_path / "m.keras", "--json", photos / "a.png")
    found = json.loads(out)["results"][0]["predictions"][0]
    assert (code, err) == (0, "")
    assert labels.class_names("imagenet1k")[found["class"]] == (found["wnid"], found["name"])


def test_predictions_are_decoded_best_first(monkeypatch):
    names = tuple((f"n{i:08d}", name) for i, name in enumerate(NAMES))
    monkeypatch.setattr(labels, "class_names", {"five": names, None: None}.get)
    probabilities = np.array([[0.1, 0.2, 0.4, 0.05, 0.25], [0.3, 0.3, 0.0, 0.3, 0.1]])
    first, tied = labels.decode_predictions(probabilities, top=3, label_set="five")
    assert first == [
        ("n00000002", "cat", 0.4),
        ("n00000004", "emu", 0.25),
        ("n00000001", "bee", 0.2),
    ]
    assert [name for _, name, _ in tied] == ["ant", "bee", "dog"]  # the lower class first
    assert [len(best) for best in labels.decode_predictions(probabilities, 9, "five")] == [5, 5]
    for wrong, label_set in ((probabilities[0], "five"), (probabilities[:, 1:], "five")):
        with pytest.raises(ValueError, match=r"\(images, 5\).*'five'.*received shape"):
            labels.decode_predictions(wrong, label_set=label_set)
    with pytest.raises(ValueError, match="names of None"):
        labels.decode_predictions(probabilities, label_set=None)


# ---------------------------------------------------------------- a published checkpoint


def serve(monkeypatch, row):
    monkeypatch.setattr(registry.table, "all_rows", lambda: (row,))
    return row


@pytest.fixture
def published(given, monkeypatch):
    """A registry whose only row is served from this machine: `test_convnext2.r160_in1k`."""
    data = (given[0] / "t2.safetensors").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    monkeypatch.delenv("KERAS_CONVNEXT_OFFLINE")
    with hub_server.plain() as server:
        server.files["/t2.safetensors"] = data
        source = registry.Source(url=f"{server.address}/t2.safetensors", sha256=digest)
        row = dataclasses.replace(
            registry.find("test_convnext2.r160_in1k"),
            **{"classes": 5, "label_set": None, "params": 349445, "size": SIDE, "crop_pct": 0.875},
            sources=(source,),
        )
        yield serve(monkeypatch, row), server


def test_a_published_checkpoint_from_its_name_to_an_answer(run, published, given, photos):
    row, server = published
    code, out, _ = run("predict", "--model", row.name, "--json", photos / "a.png")
    assert code == 0 and json.loads(out)["model"] == "test_convnext2.r160_in1k"
    predictions = json.loads(out)["results"][0]["predictions"]
    assert [best["class"] for best in predictions] == np.argsort(-given[1][0]).tolist()
    assert server.count("GET") == 1
    code, out, _ = run("info", row.name, "--json")
    assert json.loads(out)["cached"].endswith("t2.safetensors")
    code, out, _ = run("cache", "--json")
    entry = json.loads(out)["entries"][0]
    assert entry["sha256"] == row.sources[0].sha256 and entry["size"] > 1e6


def test_verify_compares_hash_and_parameters(run, published):
    row, _ = published
    code, out, _ = run("verify", row.name, "--json")
    report = json.loads(out)
    assert code == 0 and report["result"] == "good" and report["expected_from"] == "published"
    assert report["sha256"] == report["expected"] == row.sources[0].sha256
    assert report["parameters"] == 349445 and report["logits"] == "none published"


def test_verify_compares_logits_and_knows_a_file_by_its_hash(
    run, published, given, photos, monkeypatch
):
    row = serve(
        monkeypatch, dataclasses.replace(published[0], first_logits=(1.0, 2.0, 3.0), params=5)
    )
    file = given[0] / "t2.safetensors"
    code, out, _ = run("verify", file, "--image", photos / "a.png", "--json")
    report = json.loads(out)
    assert code == 1 and report["name"] == row.name and report["logits"]["matched"] is None
    assert len(report["logits"]["differences"]) == 7
    assert "no resize" in report["result"] and "expected are 5 parameters" in report["result"]


def test_verify_sees_a_changed_bit_that_the_clock_hides(run, published):
    path = resolve.fetch(published[0])
    times, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    code, out, _ = run("verify", published[0].name)
    assert code == 1 and "not loaded" in out


@on_one_backend
@needs_golden
def test_the_resize_of_published_logits_is_found():
    with np.load(GOLDEN / "eval_pipeline.npz") as archive:
        key = next(key for key in archive.files if key.endswith("/logits224"))
        logits = archive[key].reshape(-1)
    photo = next((GOLDEN / "photos").glob(key.split("/")[0].split(".")[0] + ".*"))
    row = dataclasses.replace(
        registry.find("convnext_tiny.fb_in1k"), first_logits=tuple(logits[:3].tolist())
    )
    model = ConvNeXt(
        Variant("golden", (1, 2, 3, 1), (16, 24, 32, 40)),
        weights=GOLDEN / "official_v1.pth",
        input_shape=(None, None, 3),
        classifier_activation=None,
    )
    differences = verify.logit_differences(model, row, photo)
    best, second = sorted(differences, key=differences.get)[:2]
    assert best == "its evaluation: short side 256, centre crop of 224, bicubic"
    assert differences[best] < 1e-4 < registry.FIRST_LOGITS_TOLERANCE < differences[second]


def test_verify_of_damaged_and_missing_files(run, given, tmp_path):
    data = bytearray((given[0] / "t2.safetensors").read_bytes())
    path = tmp_path / "t2.safetensors"
    data[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    code, _, err = run("verify", path)
    assert code == 1 and "not finite" in err
    path.write_bytes(data[:-100])
    code, _, err = run("verify", path)
    assert code == 1 and "damaged" in err
    code, _, err = run("verify", tmp_path / "gone.safetensors")
    assert code == 1 and "No file" in err
    code, _, err = run("verify", path, "--image", tmp_path / "gone.jpg")
    assert code == 1 and "No image" in err


# ---------------------------------------------------------------- convert


def tensors_in(path):
    return {name: tensor.numpy() for name, tensor in files.read(path).items()}


def assert_same_tensors(ours, theirs):
    ours, theirs = tensors_in(ours), tensors_in(theirs)
    assert set(ours) == set(theirs)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_convert_a_keras_file_to_published_names(run, given, tmp_path):
    folder, there = given[0], tmp_path / "c.safetensors"
    code, out, _ = run("convert", folder / "t2.keras", there, "--json")
    report = json.loads(out)
    assert code == 0 and report["variant"] == "test_convnext2" and report["classes"] == 5
    assert report["bytes"] == there.stat().st_size and report["layout"] == "timm"
    assert_same_tensors(folder / "t2.safetensors", there)


@on_one_backend
def test_convert_goes_all_the_way_round(run, given, tmp_path):
    steps = ["a.keras", "b.weights.h5", "c.safetensors"]
    previous = given[0] / "t2.safetensors"
    for step in steps:
        code, out, _ = run("convert", previous, tmp_path / step, "--json")
        report = json.loads(out)
        assert code == 0 and report["variant"] == "test_convnext2" and report["classes"] == 5
        previous = tmp_path / step
        assert report["bytes"] == previous.stat().st_size
    assert_same_tensors(given[0] / "t2.safetensors", previous)
    assert sorted(os.listdir(tmp_path)) == sorted(steps)


@pytest.mark.parametrize(
    "code, words, arguments",
    [
        (1, "--force replaces it", ["{source}", "{there}"]),
        (2, "must end in", ["{source}", "x.pth"]),
        (2, "--layout is for .safetensors", ["{source}", "x.keras", "--layout", "timm"]),
        (2, "--size is for .keras", ["{source}", "x.weights.h5", "--size", "64"]),
        (1, "make it first", ["{source}", "no/x.keras"]),
        (1, "No file", ["gone.safetensors", "x.keras"]),
        (1, "Unknown weights", ["convnext_titan", "x.keras"]),
        (1, "activation", ["{source}", "x.safetensors", "--layout", "official"]),
        (1, "does not fit", ["{source}", "x.keras", "--variant", "test_convnext3"]),
    ],
)
def test_convert_refuses_and_leaves_all_as_it_was(
    run, given, tmp_path, monkeypatch, code, words, arguments
):
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there.safetensors"
    there.write_text("mine")
    places = {"source": given[0] / "t2.safetensors", "there": there}
    got, out, err = run("convert", *(argument.format(**places) for argument in arguments))
    assert (got, out) == (code, "") and words in err
    assert there.read_text() == "mine" and os.listdir(tmp_path) == [there.name]


def test_convert_replaces_a_file_by_force(run, given, tmp_path):
    source, there = given[0] / "t2.safetensors", tmp_path / "there.safetensors"
    there.write_text("mine")
    assert run("convert", source, there, "--force")[0] == 0
    assert set(tensors_in(there)) == set(tensors_in(source))


@on_one_backend
def test_convert_asks_for_the_variant_that_it_cannot_know(run, tmp_path):
    variant = Variant("odd", (1, 1), (8, 16))
    model = ConvNeXt(variant, classes=2, input_shape=(32, 32, 3))
    saving.save_weights(model, variant, tmp_path / "odd.safetensors")
    code, _, err = run("convert", tmp_path / "odd.safetensors", tmp_path / "x.keras")
    assert code == 2 and "no known variant" in err and "--variant" in err


# ---------------------------------------------------------------- cache


def test_cache_is_shown_and_cleared(run, tmp_path, monkeypatch):
    kept = tmp_path / "home" / "files" / "x" / "w.bin"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"12345")
    code, out, err = run("cache")
    assert code == 0 and str(kept) in out and "1 files, 5 bytes" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))  # no terminal
    code, _, err = run("cache", "clear")
    assert code == 2 and "--yes" in err and kept.exists()
    assert run("cache", "--yes")[0] == 2 and kept.exists()
    code, out, _ = run("cache", "clear", "--yes", "--json")
    assert code == 0 and json.loads(out)["removed"][0]["path"] == str(kept) and not kept.exists()
    code, out, _ = run("cache", "clear")
    assert code == 0 and "Deleted 0 files" in out


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize("answer, code", [("y\n", 0), ("\n", 1)])
def test_cache_clear_asks_on_a_terminal(run, tmp_path, monkeypatch, answer, code):
    kept = tmp_path / "home" / "files" / "w.bin"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"12345")
    master, slave = os.openpty()
    os.write(master, answer.encode())
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert run("cache", "clear")[0] == code
    os.close(master)
    assert kept.exists() == (code == 1)


def test_warnings_become_notes(run, monkeypatch):
    def warned(**conditions):
        warnings.warn("`labels=` gives names", stacklevel=1)
        return ()

    monkeypatch.setattr(registry, "search", warned)
    assert run("list", "--json") == (0, "[]\n", "Note: `--labels` gives names\n")

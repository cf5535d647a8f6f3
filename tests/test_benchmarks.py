"""The benchmark command: its arithmetic, its tables, and that it measures what it says."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from benchmarks import (
    accuracy,
    children,
    contender_process,
    detection,
    forms,
    gpu,
    masked_encoder,
    memory,
    photo_sizes,
    rounds,
    run,
    scaling,
    startup,
    tables,
)
from benchmarks.configuration import USER_TASKS, Configuration, Unsupported
from benchmarks.contenders import CONTENDERS, PRODUCTS, keras_models, peers, users
from benchmarks.findings import findings
from benchmarks.medians import ratio, read_results, save_results, spread
from benchmarks.multiply_adds import multiply_adds
from keras_convnext import VARIANTS, ConvNeXt, fast
from tests.backends import BACKEND, compiles_long, on_one_backend
from tests.shape_only import shapes_only

pure = pytest.mark.skipif(BACKEND != "jax", reason="the same on every backend")


def configuration(**changed):
    values = dict(variant="convnext_tiny", batch=8, size=224, dtype="float32", task="inference")
    values |= changed
    return Configuration(**values, architecture=dataclasses.asdict(VARIANTS[values["variant"]]))


def turns(seconds, **changed):
    """What `rounds.measure` would have found."""
    begun = {"after_imports_bytes": 100, "build_seconds": 1.0, "first_step_seconds": 2.0}
    found = dict(seconds=seconds, peak_bytes=500, device_peak_bytes=None, peak_since="steps")
    return SimpleNamespace(**found | changed, beginnings=[begun | {"device": "cpu"}])


# ---------------------------------------------------------------- arithmetic


@pure
def test_ratios_are_taken_within_each_round():
    assert spread([3, 1, 2]) == {"median": 2.0, "range": [1.0, 3.0]}
    assert ratio([2, 20, 3], [1, 10, 1]) == {"median": 2.0, "range": [2.0, 3.0]}


@pure
def test_results_are_read_as_they_were_saved(tmp_path):
    path = tmp_path / "new" / "results.json"
    assert read_results(path) == {}
    save_results(path, {"b": 1, "a": [2]})
    assert read_results(path) == {"b": 1, "a": [2]}


@pure
@pytest.mark.parametrize(
    ("variant", "size", "billions"),  # FLOPs of arXiv 2201.03545, table 9
    [
        ("convnext_tiny", 224, 4.5),
        ("convnext_small", 224, 8.7),
        ("convnext_base", 224, 15.4),
        ("convnext_base", 384, 45.0),
        ("convnext_large", 384, 101.0),
        ("convnext_xlarge", 224, 60.9),
    ],
)
def test_multiply_adds_are_those_of_the_paper(variant, size, billions):
    found = multiply_adds(dataclasses.asdict(VARIANTS[variant]), size)
    assert found / 1e9 == pytest.approx(billions, rel=0.01)  # as the paper rounds


@pure
@pytest.mark.parametrize("variant", VARIANTS)
def test_multiply_adds_are_those_of_the_model(variant):
    """Each number of a kernel is used once per pixel of its layer's output."""
    with shapes_only():
        model = ConvNeXt(variant, include_preprocessing=False)
    kernels = [w for w in model.weights if w.path.rpartition("/")[2].endswith("kernel")]
    total = sum(int(np.prod(kernel.shape)) * pixels(model, kernel.path) for kernel in kernels)
    assert multiply_adds(dataclasses.asdict(VARIANTS[variant]), 224) == total


def pixels(model, path):
    shape = model.get_layer(path.partition("/")[0]).output.shape
    if len(shape) == 2:
        return 1
    return shape[1] * shape[2] * (4 if path.startswith("stem/conv1/") else 1)


@pure
def test_findings():
    ours, eager = turns([1.0, 2.0, 4.0]), turns([2.0, 2.0, 4.0], peak_bytes=900)
    product = turns([1e-3] * 3)
    found = findings(
        configuration(batch=8),
        {"jax": ours, "transformers": eager, "product-jax": product, "product-numpy": product},
        {"timm": "No module named 'timm'"},
    )
    assert found["operations_per_image"] == 2 * 4455531264
    jax = found["contenders"]["jax"]
    assert jax["images_per_second"] == {"median": 4.0, "range": [2.0, 8.0]}
    assert jax["ratios"] == {"transformers": {"median": 1.0, "range": [1.0, 2.0]}}
    assert jax["memory"] == {
        "peak_bytes": 500,
        "peak_over_imports_bytes": 400,
        "peak_since": "steps",
        "to_eager": 0.556,
    }
    limit = 2 * 4096**3 / 1e-3
    assert found["limit"]["gigaflops"]["median"] == pytest.approx(limit / 1e9, abs=0.1)
    assert jax["of_limit"]["median"] == pytest.approx(4 * 2 * 4455531264 / limit, abs=1e-3)
    assert set(found["contenders"]) == {"jax", "transformers"}
    assert found["failures"] == {"timm": "No module named 'timm'"}
    training = findings(configuration(task="training"), {"jax": ours}, {})
    assert training["operations_per_image"] == 6 * 4455531264
    assert training["limit"] is None and training["contenders"]["jax"]["of_limit"] is None


@pure
def test_the_table_has_all_that_was_found():
    models = {"jax": turns([1.0]), "applications-jax": turns([4.0]), "timm": turns([2.0])}
    found = findings(configuration(), models, {"openvino": "no export: it broke"})
    hardware = {"processor": "A processor", "cores": 2}
    text = tables.document({"a name": found | {"rounds": 1, "steps": 3, "hardware": hardware}})
    lines = text.splitlines()
    assert lines[0] == "## a name"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    assert [row[0] for row in rows[2:]] == ["jax", "timm", "applications-jax"]  # the fastest first
    assert len({len(row) for row in rows}) == 1
    assert rows[2][1:5] == ["8", "8 to 8", "2.00 (2.00 to 2.00)", "4.00 (4.00 to 4.00)"]
    assert rows[3][4] == ""
    assert "1 rounds of 3 steps on A processor, 2 cores." in text
    assert "- openvino: no export: it broke" in lines


@pure
def test_scaling_is_measured_along_both_axes():
    assert scaling.cross([96, 224], [1, 8]) == [(96, 8), (224, 8), (224, 1)]
    assert scaling.cross([32, 64], [2, 4]) == [(32, 2), (64, 2), (32, 4)]


@pure
def test_scaling_is_drawn(tmp_path):
    """Also where a contender failed in between."""
    results = {}
    for size, batch in scaling.cross([32, 64], [2, 4]):
        models = {"jax": turns([1.0, 2.0])} | ({"timm": turns([1.0, 1.0])} if size == 32 else {})
        found = configuration(size=size, batch=batch)
        results[found.name] = findings(found, models, {})
    path = scaling.draw(results, tmp_path / "scaling.png")
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > picture.height


# ---------------------------------------------------------------- the command line


@pure
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--batches", "0"], "'0' is not a whole number >= 1"),
        (["--sizes", "100"], "'100' is not a multiple of 32"),
        (["--variants", "resnet"], "'resnet' is none of convnext_tiny"),
        (["--contenders", "caffe"], "invalid choice: 'caffe'"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(flags, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        run.main(flags)
    assert end.value.code == 2 and sentence in capsys.readouterr().err


@pure
def test_help_names_every_contender(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in CONTENDERS)


@pure
def test_contenders_of_a_task():
    usual = run.contenders("training", None)
    assert {"tensorflow", "applications-jax", "transformers", "timm-compiled"} <= set(usual)
    assert not {"openvino", "jax-call"} & set(usual)
    assert run.contenders("inference", ["openvino", "product-jax"]) == ["openvino", "product-jax"]
    assert set(run.contenders("training", ["torch"])) <= {"torch", *PRODUCTS}
    assert {"jax-kept-memory", "tensorflow-onednn"} <= set(usual)
    assert CONTENDERS["tensorflow-onednn"].environment["TF_ENABLE_ONEDNN_OPTS"] == "1"


@pure
def test_quick_is_small_and_keeps_nothing():
    arguments = run.parse(["--quick", "--rounds", "2"])
    assert (arguments.results, arguments.rounds, arguments.steps) == (None, 2, 2)
    assert {c.size for c in run.configurations(arguments)} == {32}


# ---------------------------------------------------------------- processes


@pure
def test_a_child_that_cannot_answer_says_why():
    with children.Child("nowhere") as child:
        with pytest.raises(children.Failed, match="No module named nowhere"):
            child.ask()
    with children.Child(
        "timeit", "-n1", "-r1", "__import__('time').sleep(600)", patience=1
    ) as child:
        with pytest.raises(children.Failed, match="no answer within 1 seconds"):
            child.ask()


@pure
@pytest.mark.skipif(sys.platform != "linux", reason="others cannot forget a peak")
def test_the_peak_is_that_of_the_steps():
    before = memory.resident()
    np.ones(40_000_000 // 8)
    assert memory.peak() - before > 35e6
    memory.forget_peak()
    assert memory.peak() - before < 20e6


class FakeChild:
    """Answers at once; `asked` has the order over all of them, `broken` those that fail."""

    asked, broken = [], set()

    def __init__(self, module, name, *arguments, **settings):
        self.name = name

    def ask(self, request=None):
        self.asked.append((self.name, "begin" if request is None else "steps"))
        if self.asked[-1] in self.broken:
            raise children.Failed("it broke")
        return {
            "seconds": [1, 2, 9],
            "peak_since": "steps",
            "peak_bytes": 1,
            "device_peak_bytes": None,
        }

    def close(self):
        self.asked.append((self.name, "end"))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


@pure
@pytest.mark.parametrize("fresh", [False, True])
def test_contenders_take_turns(fresh, monkeypatch):
    monkeypatch.setattr(rounds, "Child", FakeChild)
    monkeypatch.setattr(rounds, "PAUSE", 0)
    monkeypatch.setattr(FakeChild, "asked", [])
    monkeypatch.setattr(FakeChild, "broken", {("torch", "steps")})
    plan = rounds.Plan(rounds=2, steps=3, fresh=fresh)
    names = ["jax", "torch", "openvino"]
    found, failures = rounds.measure(configuration(), names, plan)
    assert {name: turn.seconds for name, turn in found.items()} == {
        "jax": [2.0, 2.0],
        "openvino": [2.0, 2.0],
    }
    assert failures == {"torch": "it broke"}
    order = [name for name, what in FakeChild.asked if what == "steps"]
    assert order == ["jax", "torch", "openvino", "jax", "openvino"]
    begun = [name for name, what in FakeChild.asked if what == "begin"]
    assert begun == (order if fresh else names)
    assert len(found["jax"].beginnings) == (2 if fresh else 1)


@compiles_long
def test_it_measures(tmp_path, capsys):
    """Ours and a product, one round."""
    path = tmp_path / "speed.json"
    flags = "--variants test_convnext2 --sizes 32 --batches 2 --rounds 1 --steps 2".split()
    names = [BACKEND, f"product-{BACKEND}"]
    flags += ["--tasks", "training", "--side", "64", "--results", str(path)]
    flags += ["--contenders", *names]
    assert run.main(flags) == 0
    (name, found), *rest = json.loads(path.read_text()).items()
    assert name == "test_convnext2 32px batch 2 float32 training" and not rest
    assert found["contenders"][BACKEND]["images_per_second"]["median"] > 0
    assert found["contenders"][BACKEND]["memory"]["peak_bytes"] > 1e8
    assert found["limit"]["products"].keys() == {f"product-{BACKEND}"}
    assert found["versions"]["keras"] == keras.__version__
    assert found["hardware"].get("huge_pages", "never") in ("always", "madvise", "never")
    assert path.with_suffix(".md").read_text() == tables.document({name: found})
    assert f"| {BACKEND} |" in capsys.readouterr().out


@compiles_long
def test_startup(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "UNCOUNTED", 0)
    path = tmp_path / "startup.json"
    flags = "--variant test_convnext2 --batch 1 --size 32 --rounds 1 --tasks inference".split()
    assert startup.main([*flags, "--backends", BACKEND, "--results", str(path)]) == 0
    results = json.loads(path.read_text())["tasks"]["inference"]
    assert "no architecture as test_convnext2" in results["failures"][f"applications-{BACKEND}"]
    found = results["backends"][BACKEND]
    assert found["import_keras_seconds"]["median"] > 0
    heavy = {"tensorflow", "jax", "torch", "huggingface_hub", "matplotlib", "scipy", "PIL"}
    assert not heavy & set(found["brings_along"])


@pure
def test_photos_of_different_sizes(tmp_path, monkeypatch):
    sizes = {photo.shape for photo in photo_sizes.photos(40)}
    assert len(sizes) == 40
    seconds = {"ours": {"first": 2.0, "second": 1.0}, "applications": {"failed": "it broke"}}
    monkeypatch.setattr(photo_sizes, "measured", lambda backend, name, arguments: seconds[name])
    path = tmp_path / "sizes.json"
    assert photo_sizes.main(["--backends", "jax", "--results", str(path)]) == 0
    assert json.loads(path.read_text())["backends"]["jax"] == seconds


@compiles_long
def test_photos_are_predicted_twice(tmp_path):
    path = tmp_path / "sizes.json"
    flags = ["--backends", BACKEND, "--photos", "1", "--variant", "test_convnext2"]
    assert photo_sizes.main([*flags, "--results", str(path)]) == 0
    assert json.loads(path.read_text())["backends"][BACKEND]["ours"]["first"] > 0


def test_each_form_can_be_left_out():
    ours = {n: form for n, form in forms.FORMS.items() if BACKEND in form.backends and form.without}
    assert len(ours) >= 4
    for name, form in ours.items():
        before = {attribute: getattr(fast.forms, attribute) for attribute in form.without}
        with forms.without(name):
            found = {attribute: getattr(fast.forms, attribute) for attribute in form.without}
            assert found == form.without and found != before
        assert before == {attribute: getattr(fast.forms, attribute) for attribute in before}


@pytest.mark.slow
def test_a_model_without_each_form_is_measured(tmp_path, capsys):
    path = tmp_path / "forms.json"
    flags = ["--backends", BACKEND, "--variants", "test_convnext2", "--tasks", "inference"]
    flags += ["--size", "32", "--batch", "1", "--rounds", "2", "--results", str(path)]
    assert forms.main(flags) == 0
    (seconds,) = json.loads(path.read_text())["seconds"].values()
    assert all(len(values) == 2 and min(values) > 0 for values in seconds.values())
    assert {"all", "residual branch"} <= set(seconds)
    row = f"| {BACKEND} | test_convnext2 | inference | 32 | 1 | float32 | wall | residual branch |"
    assert row in capsys.readouterr().out


@pure
def test_a_case_of_detection_is_checked_and_shown():
    arguments = detection.parse(["--quick"])
    assert (arguments.results, arguments.rounds, arguments.steps) == (None, 1, 1)
    case = detection.Case("nms", "convnext_tiny", 64, 96, batch=2, boxes=8)
    detection.check(np.ones((2, 8), bool), case)
    for wrong in (np.ones((1, 8), bool), np.full((2, 8), np.nan)):
        with pytest.raises(ValueError, match="expected finite"):
            detection.check(wrong, case)
    model = dataclasses.replace(case, subject="mask_rcnn", boxes=500)
    detection.check({"boxes": np.ones((2, 100, 4))}, model)
    with pytest.raises(ValueError, match="expected finite"):
        detection.check({"boxes": np.ones((2, 8, 4))}, model)
    rows = detection.contenders("cascade")
    assert [row.environment.get("KERAS_BACKEND") for row in rows.values()] == [
        *("tensorflow", "jax", "torch"),
        None,
    ]


@compiles_long
def test_detection_is_measured(tmp_path, capsys):
    path = tmp_path / "detection.json"
    flags = "--subjects nms --boxes 8 --height 64 --width 64 --rounds 1 --steps 2".split()
    flags += ["--contenders", BACKEND, "torchvision", "--results", str(path)]
    flags += ["--peer_python", "no/such/python"]
    assert detection.main(flags) == 0
    found = json.loads(path.read_text())
    assert found["versions"]["keras"] == keras.__version__
    found = found["subjects"]["nms"]
    row = found["contenders"][BACKEND]
    assert row["per_second"]["median"] > 0 and row["to_peer"] is None
    assert row["peak_bytes"] > row["peak_over_imports_bytes"]
    assert "no/such/python" in found["failures"]["torchvision"]
    said = capsys.readouterr().out
    assert said.startswith("## nms, convnext_tiny, 64 x 64 pixels, batch 1")
    assert f"| {BACKEND} |" in said and "- torchvision: " in said


@pytest.mark.slow
@on_one_backend
def test_both_detectors_are_measured(tmp_path):
    path = tmp_path / "detection.json"
    flags = "--subjects mask_rcnn cascade roi_align --boxes 4 --height 64 --width 90".split()
    flags += ["--variant", "convnext_atto", "--rounds", "1", "--steps", "1"]
    assert detection.main([*flags, "--contenders", BACKEND, "--results", str(path)]) == 0
    found = json.loads(path.read_text())["subjects"]
    assert [list(rows["contenders"]) for rows in found.values()] == [[BACKEND]] * 3


@on_one_backend
def test_the_masked_encoder_is_measured(tmp_path, monkeypatch, capsys):
    def in_this_process(backend, arguments):
        if backend == "jax":
            return {"failed": "no memory"}
        return masked_encoder.in_this_process(arguments)

    monkeypatch.setattr(masked_encoder, "measured", in_this_process)
    path = tmp_path / "masked.json"
    flags = "--backends torch jax --variant test_convnext2 --size 64 --batch 1 --rounds 2".split()
    assert masked_encoder.main([*flags, "--results", str(path)]) == 0
    found = json.loads(path.read_text())["backends"]["torch"]
    assert set(found) == {"forward", "training"} and len(found["forward"]["ratios"]) == 2
    out = capsys.readouterr().out
    assert "| torch | training |" in out and "| jax | no memory |" in out


# ---------------------------------------------------------------- tasks of users, peers, GPUs


@compiles_long
@pytest.mark.parametrize("task", USER_TASKS)
def test_users_tasks_are_measured(task, tmp_path):
    """On photos that are there, of which a second contender writes none again."""
    case = configuration(
        variant="test_convnext2", batch=2, size=32, task=task, folder=str(tmp_path)
    )
    files = sorted(users.photos(case).rglob("*.jpg"))
    assert len(files) == case.images == 8
    times = [path.stat().st_mtime_ns for path in files]
    result = keras_models.ours(case)()
    contender_process.check(result, case, CONTENDERS[BACKEND])
    with pytest.raises(ValueError, match="expected finite"):
        contender_process.check(np.ones(3), case, CONTENDERS[BACKEND])
    assert [path.stat().st_mtime_ns for path in files] == times
    assert Image.open(files[0]).size == (500, 375)
    assert run.contenders(task, None)[:2] == ["tensorflow", "applications-tensorflow"]


@pure
def test_users_have_settings_of_their_own():
    arguments = run.parse(["--users"])
    assert (arguments.tasks, arguments.steps) == (list(USER_TASKS), 1)
    assert arguments.results.name == "users.json"
    with pytest.raises(SystemExit):
        run.parse(["--users", "--scaling"])


@pure
def test_peers_stand_beside_their_size():
    assert peers.peer_of("swin", "convnext_small").title == "Swin-S"
    with pytest.raises(Unsupported, match="not beside convnext_small"):
        peers.peer_of("deit", "convnext_small")
    found = findings(
        configuration(),
        {"transformers-swin": turns([1.0]), "product-jax": turns([1.0])},
        {},
    )
    # whose multiply-adds are not those of ConvNeXt
    assert found["contenders"]["transformers-swin"]["of_limit"] is None


@pure
def test_accuracy_is_drawn_against_speed(tmp_path):
    path, picture = tmp_path / "speed.json", tmp_path / "accuracy.png"
    flags = ["--results", str(path), "--picture", str(picture)]
    assert accuracy.main(flags) == 1 and not picture.exists()
    results = {}
    for size in (224, 384):
        for variant in ("convnext_tiny", "convnext_base"):
            case = configuration(variant=variant, size=size)
            names = ("jax", "transformers-swin", "transformers-deit")
            results[case.name] = findings(case, {name: turns([1.0]) for name in names}, {})
    save_results(path, results)
    found = accuracy.points(results, 8, "float32")
    assert found["jax", 224] == [(8.0, 83.8, "convnext_base"), (8.0, 82.1, "convnext_tiny")]
    assert found["transformers-swin", 384] == [(8.0, 84.5, "Swin-B")]
    assert accuracy.main(flags) == 0
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"


@pure
def test_the_suite_of_a_gpu_keeps_to_its_time(monkeypatch, capsys):
    arguments = gpu.parse(["--quick", "--contenders", "jax"])
    found = [case.name for case in gpu.configurations(arguments)]
    assert found[0] == "convnext_tiny 32px batch 2 bfloat16 training" and len(found) == 10
    asked, now = [], iter(range(0, 1000, 100))
    monkeypatch.setattr(gpu, "monotonic", lambda: next(now))
    monkeypatch.setattr(gpu.run, "one", lambda case, *_: asked.append(case.name) or NOTHING)
    measured, left = gpu.suite(arguments, deadline=250)
    assert asked == list(measured) == found[:3] and left == found[3:]
    monkeypatch.setattr(gpu, "gpus", list)
    assert gpu.main([]) == 2 and "no NVIDIA GPU" in capsys.readouterr().err


NOTHING = {"contenders": {}, "failures": {}, "limit": None, "rounds": 1, "steps": 1}
NOTHING["hardware"] = {"processor": "A processor", "cores": 2}


@pure
def test_contenders_start_side_by_side(monkeypatch):
    monkeypatch.setattr(rounds, "Child", FakeChild)
    monkeypatch.setattr(rounds, "PAUSE", 0)
    monkeypatch.setattr(FakeChild, "asked", [])
    monkeypatch.setattr(FakeChild, "broken", set())
    spawned = []
    monkeypatch.setattr(
        FakeChild, "__enter__", lambda child: spawned.append(len(child.asked)) or child
    )
    plan = rounds.Plan(rounds=3, steps=1, together=True, deadline=0)
    found, failures = rounds.measure(configuration(), ["jax", "torch"], plan)
    assert spawned == [0, 0] and not failures  # before any was asked
    assert {name: len(turn.seconds) for name, turn in found.items()} == {"jax": 1, "torch": 1}

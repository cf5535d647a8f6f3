"""Folders of an export: the web page in a browser, and what model servers take."""

import base64
import dataclasses
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_convnext import Classifier, ConvNeXt, Variant
from keras_convnext.cli import main
from keras_convnext.preprocessing import EvalTransform
from tests import browser
from tests.backends import on_one_backend, randomise

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format  # noqa: E402

from keras_convnext.export import export_for, servers, web  # noqa: E402
from keras_convnext.export.runners import opened  # noqa: E402

pytestmark = on_one_backend
PARTS = {"index.html", "page.css", "page.js", "preprocessing.js", "model.onnx", "model.json"}
STUBBED = {*PARTS, f"runtime/{web.RUNTIME[0]}"}
NAMES = ['<img src="x" onerror="document.title=1">', "</script> & \\ \"'", "ä\nb", "__proto__", ""]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def classifier():
    model = ConvNeXt(Variant("small", (1, 1), (8, 16)), classes=5, input_shape=(48, 48, 3))
    return Classifier(randomise(model, scale=0.3), labels=NAMES)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A working directory that no `node_modules` is above of."""
    monkeypatch.setattr(web, "installed_runtime", lambda: None)
    return tmp_path


# ---------------------------------------------------------------- the folder of a page


def test_a_page_without_its_runtime_says_where_to_get_it(classifier, alone):
    with pytest.warns(UserWarning, match="`npm install onnxruntime-web`, then export again"):
        made = export_for("web", classifier, alone / "page")
    assert files(made.path) == STUBBED and made.format == "web page"
    assert made.bytes == sum(path.stat().st_size for path in made.path.rglob("*.*"))
    assert made.difference < 1e-5
    said = json.loads((made.path / "model.json").read_text(encoding="utf-8"))
    assert said["names"] == NAMES and said["transform"]["size"] == 48
    assert said["bytes"] == (made.path / "model.onnx").stat().st_size
    (found,) = opened(made.path / "model.onnx")(np.zeros((1, 48, 48, 3))).values()
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert "<img" not in (made.path / "index.html").read_text().replace('<img id="photo"', "")


def test_a_runtime_is_copied_into_the_page(classifier, tmp_path, monkeypatch):
    package = tmp_path / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    for name in web.RUNTIME:
        (package / "dist" / name).write_text(name)
    for number, given in enumerate((package / "dist", package, package.parent, tmp_path)):
        assert web.runtime_in(given) == package / "dist", number
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The page does not have")
        made = export_for("web", classifier, "page")
    assert made.path == Path("page")
    assert files(below / "page") == web.FILES
    for name in web.RUNTIME:
        assert (below / "page" / "runtime" / name).read_text() == name
    with pytest.raises(FileNotFoundError, match="No onnxruntime-web in .*/a'"):
        export_for("web", classifier, tmp_path / "other", runtime=tmp_path / "a")
    assert not (tmp_path / "other").exists()


@pytest.mark.filterwarnings("ignore:The page does not have")
def test_a_folder_is_replaced_when_asked_for_and_by_its_like_alone(classifier, alone):
    page, mine = alone / "page", alone / "photos"
    export_for("web", classifier, page)
    before = {name: (page / name).stat().st_mtime_ns for name in files(page)}
    with pytest.raises(FileExistsError, match="page' exists; `replace=True` replaces it"):
        export_for("web", classifier, page)
    with pytest.raises(FileExistsError, match="files that are not .* '(index|page|model|prep|run)"):
        export_for("triton", classifier, page, replace=True)
    assert {name: (page / name).stat().st_mtime_ns for name in files(page)} == before
    export_for("web", classifier, page, replace=True)
    assert files(page) == STUBBED
    mine.mkdir()
    (mine / "photo.jpg").write_text("mine")
    with pytest.raises(FileExistsError, match=r"for example 'photo.jpg': name a new folder"):
        export_for("web", classifier, mine, replace=True)
    with pytest.raises(FileExistsError, match="photo.jpg' is a file: name a new folder"):
        export_for("web", classifier, mine / "photo.jpg", replace=True)
    with pytest.raises(FileNotFoundError, match="make it first"):
        export_for("web", classifier, alone / "no" / "page")
    assert sorted(path.name for path in alone.iterdir()) == ["page", "photos"]


def test_what_a_page_cannot_do_is_said(classifier, alone):
    features = ConvNeXt(Variant("f", (1,), (8,)), include_top=False, input_shape=(32, 32, 3))
    for target, model, wrong, said in (
        ("web", classifier, {"softmax": False, "input_dtype": "uint8"}, "`input_dtype`, `softmax`"),
        ("web", features, {}, "is for classifiers, and this model is for features"),
        ("triton", classifier, {"runtime": "x"}, "`runtime` is for 'web'"),
        ("phone", classifier, {}, r"`target` must be one of \['web', 'triton', 'ovms'\]"),
    ):
        with pytest.raises(ValueError, match=said):
            export_for(target, model, alone / "page", **wrong)
    assert not list(alone.iterdir())


# ---------------------------------------------------------------- model servers


def config_class():
    """Returns a message with the fields of Triton's `ModelConfig` that are written here."""
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="triton")
    kinds = file.enum_type.add(name="DataType")
    for name, number in (("TYPE_INVALID", 0), ("TYPE_UINT8", 2), ("TYPE_FP32", 11)):
        kinds.value.add(name=name, number=number)
    field = descriptor_pb2.FieldDescriptorProto
    text, whole, kind, inner = field.TYPE_STRING, field.TYPE_INT64, field.TYPE_ENUM, 11
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (label, type_, title, of) in enumerate(fields, 1):
            made.field.add(name=title, number=number, label=label, type=type_, type_name=of)

    tensor = [(one, text, "name", None), (one, kind, "data_type", ".triton.DataType")]
    tensor += [(many, whole, "dims", None), (one, text, "label_filename", None)]
    message("Tensor", *tensor)
    message("Batching")
    message(
        "ModelConfig",
        (one, text, "name", None),
        (one, text, "backend", None),
        (one, whole, "max_batch_size", None),
        (many, inner, "input", ".triton.Tensor"),
        (many, inner, "output", ".triton.Tensor"),
        (one, inner, "dynamic_batching", ".triton.Batching"),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("triton.ModelConfig"))


TYPES = {"tensor(uint8)": 2, "tensor(float)": 11}


@pytest.mark.parametrize("free", [False, True])
def test_triton_reads_what_the_file_takes_and_returns(free, classifier, tmp_path):
    import onnxruntime

    shape = (None, None, 3) if free else None
    folder = tmp_path / 'my "flowers" ä'
    made = export_for("triton", classifier, folder, input_shape=shape, softmax=False)
    assert files(folder) == {"config.pbtxt", "labels.txt", "1/model.onnx"}
    assert made.difference < 1e-5 and made.format == "Triton"
    text = (folder / "config.pbtxt").read_text(encoding="ascii")
    config = text_format.Parse(text, config_class()())
    assert config.name == folder.name and config.backend == "onnxruntime"
    assert config.max_batch_size == servers.MOST and config.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    for said, true in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [tensor.name for tensor in said] == [tensor.name for tensor in true]
        assert [tensor.data_type for tensor in said] == [TYPES[tensor.type] for tensor in true]
        shapes = [[-1 if isinstance(n, str) else n for n in tensor.shape] for tensor in true]
        assert [[-1, *tensor.dims] for tensor in said] == shapes
    assert list(config.input[0].dims) == ([-1, -1, 3] if free else [48, 48, 3])
    assert config.output[0].label_filename == "labels.txt"
    lines = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [" ".join(name.split()) for name in NAMES] and len(lines) == 5


def test_a_graph_without_a_batch_is_served_one_by_one():
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [], "g", [info("x", 1, [1, "height", None])], [info("y", 7, ["found"])]
    )
    text = servers.configuration("m", graph)
    assert "max_batch_size: 0" in text and "dynamic_batching" not in text
    assert "dims: [ 1, -1, -1 ]" in text and "data_type: TYPE_INT64\n  dims: [ -1 ]" in text


def test_the_folder_of_openvino_model_server(classifier, tmp_path):
    pytest.importorskip("openvino")
    made = export_for("ovms", classifier, tmp_path / "flowers")
    assert files(made.path) == servers.OpenVinoModelServer.FILES
    (found,) = opened(made.path / "1" / "model.xml")(np.zeros((1, 48, 48, 3))).values()
    assert found.shape == (1, 5)


@pytest.mark.filterwarnings("default:The page does not have")
def test_the_command(classifier, alone, capsys):
    model, page = str(alone / "m.keras"), str(alone / "page")
    classifier.model.save(model)
    assert main(["export", model, "--for", "web", page, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["destination"] == page
    assert "Note: The page does not have what runs the model" in said.err
    assert "with `--runtime` and its folder" in said.err
    assert main(["export", model, "--for", "web", page]) == 1
    assert "page' exists; `--force` replaces it." in capsys.readouterr().err
    for wrong, code, words in (
        (["--for", "web", page, "--force", "--dynamic"], 2, "input and output: omit --dynamic."),
        (["--for", "phone", page], 2, "--for phone: it is one of web, triton, ovms."),
        (["--for", "triton", page, "--runtime", "x"], 2, "--runtime is for --for web."),
        (["--to", "m.onnx", "--runtime", "x"], 2, "--runtime is for --for web."),
        (["--for", "web", str(alone / "no" / "p")], 1, "does not exist: make it first"),
        (["--for", "web", page, "--force", "--runtime", page], 1, "No onnxruntime-web in"),
    ):
        assert main(["export", model, *wrong]) == code
        assert words in capsys.readouterr().err
    served = str(alone / "served")
    assert main(["export", model, "--for", "triton", served, "--dynamic", "--json"]) == 0
    assert "dims: [ -1, -1, 3 ]" in (Path(served) / "config.pbtxt").read_text()


# ---------------------------------------------------------------- the page in a browser


TRANSFORMS = (
    EvalTransform(48, crop_pct=0.875),
    EvalTransform(64, resize="squash"),
    EvalTransform(33, resize_size=40, interpolation="bilinear"),
    EvalTransform(50, resize_size=31),  # black borders
    EvalTransform(700, crop_pct=0.9),  # larger than the photo
)
SIZES = ((640, 427), (300, 299), (50, 400), (37, 21))  # of images


@pytest.fixture(scope="module")
def page(classifier, tmp_path_factory):
    """The exported page in a browser."""
    runtime = os.environ.get("ONNXRUNTIME_WEB") or web.installed_runtime()
    if browser.chromium() is None:
        pytest.skip("no Chromium: install one, or say where it is by CHROMIUM")
    if runtime is None:
        pytest.skip("no onnxruntime-web: npm install it, or say where it is by ONNXRUNTIME_WEB")
    folder = tmp_path_factory.mktemp("web")
    export_for("web", classifier, folder / "page", runtime=runtime)
    with browser.served(folder) as address, browser.opened(folder / "browser") as found:
        found.folder, found.address = folder, f"{address}page/"
        found.call("Page.navigate", url=found.address)
        found.wait_for("document.querySelector('#status')?.textContent === 'The model is ready.'")
        yield found


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A real photograph, as a JPEG."""
    load = pytest.importorskip("sklearn.datasets").load_sample_image
    path = tmp_path_factory.mktemp("photo") / "china.jpg"
    Image.fromarray(load("china.jpg")).save(path, quality=92)
    return path


@pytest.mark.slow
def test_a_dropped_photo_gets_the_answers_of_the_classifier(page, classifier, photo):
    page.drop(photo, 100, 300)
    page.wait_for("document.querySelectorAll('#answers li').length === 5")
    shown = page.value(
        "[...document.querySelectorAll('#answers li')].map(li => ["
        "li.querySelector('.name').textContent, li.querySelector('.bar span').style.width])"
    )
    expected = classifier(photo)
    assert [name for name, _ in shown] == [best.name for best in expected]
    for (_, width), best in zip(shown, expected, strict=True):
        percent = 100 * best.probability
        assert float(width.rstrip("%")) == pytest.approx(percent, abs=0.2)  # the browser's own JPEG
    assert expected[0].probability > 1.05 * expected[1].probability  # there is something to see
    page.choose("#file", photo)
    page.wait_for("document.querySelectorAll('#answers li').length === 5")
    assert page.value("document.title") == "small"  # no name of a class became code
    assert page.complaints == []
    assert all(url.startswith((page.address, "data:", "blob:")) for url in page.requests)
    assert any(url.endswith(".wasm") for url in page.requests)


SEEN = """(async () => {
    const { decoded, pixelsOf } = await import("./preprocessing.js");
    const bytes = Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0));
    const pixels = pixelsOf(await decoded(new Blob([bytes])), %s, %s);
    const parts = Array.from({ length: Math.ceil(pixels.length / 9999) }, (_, n) =>
        String.fromCharCode(...pixels.subarray(9999 * n, 9999 * (n + 1))));
    return btoa(parts.join(""));
})()"""


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_the_transform(page, photo, size, tmp_path):
    image = Image.open(photo).resize(size)
    image.save(tmp_path / "photo.png")
    content = base64.b64encode((tmp_path / "photo.png").read_bytes()).decode()
    inputs = [(transform, 3, "NHWC") for transform in TRANSFORMS]
    inputs += [(TRANSFORMS[0], 3, "NCHW"), (TRANSFORMS[0], 1, "NHWC")]
    for transform, channels, layout in inputs:
        fields = json.dumps(dataclasses.asdict(transform))
        taken = json.dumps({"channels": channels, "layout": layout})
        found = base64.b64decode(page.value(SEEN % (content, fields, taken)))
        expected = transform(image)
        if channels == 1:
            expected = np.asarray(Image.fromarray(expected).convert("L"))[..., None]
        expected = expected.transpose(2, 0, 1) if layout == "NCHW" else expected
        assert np.array_equal(np.frombuffer(found, "uint8").reshape(expected.shape), expected)


@pytest.mark.slow
def test_a_photo_is_turned_as_its_camera_noted(page, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo).save(tmp_path / "turned.jpg", exif=exif)
    content = base64.b64encode((tmp_path / "turned.jpg").read_bytes()).decode()
    found = page.value(f"""(async () => {{
        const {{ decoded }} = await import("./preprocessing.js");
        const bytes = Uint8Array.from(atob("{content}"), (c) => c.charCodeAt(0));
        const {{ width, height }} = await decoded(new Blob([bytes]));
        return [width, height];
    }})()""")
    assert found == [427, 640]


@pytest.mark.slow
def test_a_page_that_cannot_run_yet_says_what_is_missing(page, classifier):
    folder = page.folder / "bare"
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="does not have"):
        patch.setattr(web, "installed_runtime", lambda: None)
        export_for("web", classifier, folder)
    page.call("Page.navigate", url=page.address.replace("/page/", "/bare/"))
    page.wait_for("document.querySelector('#status')?.textContent === 'The model cannot run yet.'")
    shown = page.value("document.querySelector('#runtime').innerText")
    assert all(name in shown for name in (*web.RUNTIME, "npm install onnxruntime-web"))
    assert page.complaints == []
    page.call("Page.navigate", url=page.address)
    page.wait_for("document.querySelector('#status')?.textContent === 'The model is ready.'")


@pytest.mark.slow
def test_what_is_no_photo_is_said(page, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    page.drop(tmp_path / "text.jpg", 100, 300)
    page.wait_for("document.querySelector('#status').textContent.includes('no photo that')")
    assert page.value("document.querySelectorAll('#answers li').length") == 0

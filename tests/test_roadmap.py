"""The roadmap from ResNet to ConvNeXt: its numbers, its first step, its last step."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_convnext import VARIANTS, ConvNeXt, ConvNeXtBlock, Variant, count_macs, roadmap
from keras_convnext.macs import trained_parameters
from tests.backends import BACKEND, EXHAUSTIVE, numpy, on_one_backend, randomise
from tests.shape_only import shapes_only

each_step = pytest.mark.parametrize("step", roadmap.STEPS)
# two stages are enough for everything that a step changes
SMALL = roadmap.Regime("small", (2, 1), 4, Variant("small_end", (1, 1), (6, 12)), ratio_width=5)
NARROW = dataclasses.replace(SMALL, ratio_width=None)
SHAPE = {"regime": SMALL, "input_shape": (16, 16, 3), "classes": 3}
LAST = "separate_downsampling"
TOLERANCE = 1e-4  # of the largest magnitude: float32, other orders of summation
# rows in which the paper's figure counts more than convolutions and linear layers: what they are
MORE_THAN_CONVOLUTIONS = {("layer_norm", "resnet50"): 4.15, (LAST, "resnet50"): 4.46}


def build(step, **changes):
    return roadmap.build(step, **{**SHAPE, **changes})


def images(count=2, side=16, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, side, side, 3)).astype("float32")


def positive_variances(model):
    for weight in model.weights:
        if weight.path.endswith("moving_variance"):
            weight.assign(keras.ops.abs(weight) + 0.5)
    return model


def error(computed, expected):
    return np.abs(computed - expected).max() / np.abs(expected).max()


# ---------------------------------------------------------------- the paper's figures


@on_one_backend
@pytest.mark.parametrize("regime", roadmap.REGIMES)
@each_step
def test_macs_are_the_papers(step, regime):
    with shapes_only():
        model = roadmap.build(step, regime)
    printed = roadmap.STEPS[step].macs[regime]
    expected = MORE_THAN_CONVOLUTIONS.get((step, regime), printed)
    assert f"{count_macs(model) / 1e9:.2f}" == f"{expected:.2f}"


@on_one_backend
@pytest.mark.parametrize(("step", "millions"), [("resnet", "25.56"), (LAST, "28.59")])
def test_parameters_of_both_ends(step, millions):
    with shapes_only():
        model = roadmap.build(step)
    assert f"{trained_parameters(model) / 1e6:.2f}" == millions


@on_one_backend
def test_each_step_changes_one_thing():
    """But for the second, where the paper widens the larger network to keep its cost."""
    assert [len(step.changes) for step in roadmap.STEPS.values()] == [0, 2, *[1] * 14]
    assert roadmap.network("resnet") == roadmap.Network()
    assert roadmap.network("kernel_size_11").kernel_size == 11
    assert roadmap.network("gelu").kernel_size == 7


@on_one_backend
def test_the_table(capsys, monkeypatch):
    monkeypatch.setattr(roadmap, "STEPS", {k: roadmap.STEPS[k] for k in ("resnet", "depthwise")})
    monkeypatch.setitem(roadmap.REGIMES, "resnet50", dataclasses.replace(SMALL, name="resnet50"))
    roadmap.print_table()
    first, resnet, depthwise = capsys.readouterr().out.splitlines()
    assert first.split() == ["step", "parameters", "GMACs", "paper", "top-1", "changes"]
    assert resnet.split()[0] == "resnet" and resnet.split()[3:] == ["4.09", "78.82"]
    assert depthwise.endswith("2.35  78.28  depthwise: True")


@on_one_backend
def test_the_table_of_a_road_of_ones_own(capsys, monkeypatch):
    """The paper has no figures for it; depths and widths are its own."""
    rows = ("resnet", "stage_ratio", "width")
    monkeypatch.setattr(roadmap, "STEPS", {k: roadmap.STEPS[k] for k in rows})
    for regime, second in ((SMALL, "blocks 1-1, width 5"), (NARROW, "blocks 1-1")):
        roadmap.print_table(regime)
        resnet, ratio, width = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
        assert len(resnet) == 3 and ratio[3:] == second.split() and width[3:] == ["width", "6"]


# ---------------------------------------------------------------- every step


# the others compile each of them for many seconds
QUICK = tuple(roadmap.STEPS) if BACKEND == "torch" else ("gelu",)
SLOW = [
    pytest.param(step, marks=EXHAUSTIVE if place % 4 else pytest.mark.slow)
    for place, step in enumerate(roadmap.STEPS)
    if step not in QUICK
]


@pytest.mark.parametrize("step", [*QUICK, *SLOW])
def test_trains_two_steps_and_is_saved(step, tmp_path):
    keras.utils.set_random_seed(0)
    model = build(step, drop_path_rate=0.2, classifier_activation=None)
    before = {weight.path: numpy(weight).copy() for weight in model.trainable_weights}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3), loss)
    x, y = images(8), np.arange(8) % 3
    history = model.fit(x, y, batch_size=4, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all((numpy(w) != before[w.path]).any() for w in model.trainable_weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    assert error(numpy(loaded(x)), numpy(model(x))) < 1e-6


@on_one_backend
@pytest.mark.parametrize(("stem_stride", "side"), [(1, 32), (2, 16), (4, 8)])
@each_step
def test_small_stems(step, stem_stride, side):
    model = build(step, stem_stride=stem_stride, input_shape=(32, 32, 3))
    first, last = (model.get_layer(f"stage{s}_block0").output.shape for s in (0, 1))
    assert (first[1:3], last[1:3]) == ((side, side), (side // 2, side // 2))
    assert numpy(model(images(side=32))).shape == (2, 3)


@on_one_backend
@each_step
def test_the_stem_strides_as_that_of_the_end_unless_told(step):
    end = dataclasses.replace(SMALL.end, stem_stride=2)
    regime = dataclasses.replace(SMALL, end=end)
    for stem_stride, side in ((None, 8), (4, 4)):
        model = build(step, regime=regime, stem_stride=stem_stride)
        assert model.get_layer("stage0_block0").output.shape[1:3] == (side, side)
    assert build(step).get_layer("stage0_block0").output.shape[1:3] == (4, 4)


@on_one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": "patchify"}, "patchify_stem"),
        ({"regime": "resnet101"}, "resnet200"),
        ({"stem_stride": 3}, r"\[1, 2, 4\]"),
        ({"classes": 0}, "an integer >= 1"),
        ({"drop_path_rate": 1.0}, r"\[0, 1\)"),
        ({"input_shape": (4, 4, 3)}, "at least 8 x 8"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_wrong_arguments_say_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**{"step": "gelu", **arguments})


@on_one_backend
def test_a_regime_keeps_its_stages():
    with pytest.raises(ValueError, match="as many stages"):
        roadmap.Regime("odd", (1, 1, 1), 8, SMALL.end)
    with pytest.raises(ValueError, match=r"one of \(1, 2, 4\), received 16"):
        roadmap.Regime("odd", (18,), 8, VARIANTS["convnext_isotropic_small"])


# ---------------------------------------------------------------- the first step


def torch_resnet(torch, depths, width, classes):
    """Returns torchvision's ResNet with bottlenecks, by its names, of plain modules."""
    nn = torch.nn

    def conv(channels, filters, side, stride=1):
        return nn.Conv2d(channels, filters, side, stride, side // 2, bias=False)

    class Bottleneck(nn.Module):
        def __init__(self, channels, width, stride):
            super().__init__()
            self.conv1, self.bn1 = conv(channels, width, 1), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
            if stride > 1 or channels != 4 * width:
                beside = conv(channels, 4 * width, 1, stride), nn.BatchNorm2d(4 * width)
                self.downsample = nn.Sequential(*beside)

        def forward(self, x):
            shortcut = self.downsample(x) if hasattr(self, "downsample") else x
            y = torch.relu(self.bn1(self.conv1(x)))
            y = torch.relu(self.bn2(self.conv2(y)))
            return torch.relu(self.bn3(self.conv3(y)) + shortcut)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv(3, width, 7, 2), nn.BatchNorm2d(width)
            channels = width
            for stage, depth in enumerate(depths):
                blocks = []
                for block in range(depth):
                    stride = 2 if stage and not block else 1
                    blocks.append(Bottleneck(channels, width * 2**stage, stride))
                    channels = 4 * width * 2**stage
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            self.fc = nn.Linear(channels, classes)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            x = nn.functional.max_pool2d(x, 3, 2, 1)
            for stage in range(len(depths)):
                x = getattr(self, f"layer{stage + 1}")(x)
            return self.fc(x.mean((2, 3)))

    return ResNet()


def torchvision_name(path):
    """Of one of our weights: `stage0_block2_conv1_norm/gamma` is `layer1.2.bn1.weight`."""
    layer, weight = path.split("/")
    end = {
        "kernel": "weight",
        "gamma": "weight",
        "bias": "bias",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }[weight]
    if not layer.startswith("stage"):
        return f"{ {'stem': 'conv1', 'stem_norm': 'bn1', 'head': 'fc'}[layer] }.{end}"
    stage, block, *part = layer.removeprefix("stage").replace("block", "").split("_")
    number = part[0].removeprefix("conv")
    names = {"shortcut": ("downsample.0", "downsample.1")}
    plain, norm = names.get(part[0], (f"conv{number}", f"bn{number}"))
    return f"layer{int(stage) + 1}.{block}.{norm if part[1:] else plain}.{end}"


def random_state(torch, module):
    generator = torch.Generator().manual_seed(0)
    state = {k: v for k, v in module.state_dict().items() if not k.endswith("tracked")}
    for name, tensor in state.items():
        noise = torch.randn(tensor.shape, generator=generator)
        spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1
        tensor.copy_(noise * spread + (tensor.ndim == 1 and not name.endswith(("bias", "mean"))))
    for name in state:
        if name.endswith("var"):
            state[name].abs_()
    return state


@pytest.mark.parametrize(
    "depths",
    [(1, 2), pytest.param((3, 4, 6, 3), marks=pytest.mark.slow)],
    ids=["small", "resnet50"],
)
def test_the_first_step_is_torchvisions(depths):
    torch = pytest.importorskip("torch")
    is_whole = len(depths) == 4
    width, classes, side = (64, 1000, 64) if is_whole else (8, 5, 32)
    end = Variant("end", depths, [1] * len(depths))
    regime = "resnet50" if is_whole else roadmap.Regime("small", depths, width, end)
    model = roadmap.build(
        "resnet",
        regime,
        input_shape=(side, side, 3),
        classes=classes,
        classifier_activation=None,
        include_preprocessing=False,
    )
    peer = torch_resnet(torch, depths, width, classes).eval()
    with torch.no_grad():
        state = random_state(torch, peer)
        x = np.random.default_rng(0).standard_normal((2, side, side, 3)).astype("float32")
        expected = peer(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    for weight in model.weights:
        array = state.pop(torchvision_name(weight.path)).numpy()
        axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[array.ndim]
        weight.assign(array.transpose(axes))
    assert not state
    assert error(numpy(model(x)), expected) < TOLERANCE


@on_one_backend
def test_the_first_step_has_torchvisions_names():
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        state = torch_resnet(torch, (3, 4, 6, 3), 64, 1000).state_dict()
    with shapes_only():
        model = roadmap.build("resnet")
    ours = {torchvision_name(weight.path): sorted(weight.shape) for weight in model.weights}
    theirs = {k: sorted(v.shape) for k, v in state.items() if not k.endswith("tracked")}
    assert ours == theirs


# ---------------------------------------------------------------- the last step


def test_the_last_step_is_convnext():
    model = randomise(build(LAST), scale=0.3)
    plain = ConvNeXt(SMALL.end, input_shape=(16, 16, 3), classes=3)
    assert [w.path for w in model.weights] == [w.path for w in plain.weights]
    plain.set_weights(model.get_weights())
    np.testing.assert_array_equal(numpy(model(images())), numpy(plain(images())))


@on_one_backend
@pytest.mark.parametrize(
    ("regime", "variant"), [("resnet50", "convnext_tiny"), ("resnet200", "convnext_base")]
)
def test_the_roads_end_at_tiny_and_base(regime, variant):
    with shapes_only():
        models = roadmap.build(LAST, regime), ConvNeXt(VARIANTS[variant])
    paths = [[(w.path, w.shape) for w in model.weights] for model in models]
    assert paths[0] == paths[1] and models[0].name == variant


@on_one_backend
def test_before_it_the_blocks_are_convnexts():
    """But for those that reduce the resolution, and layer scale."""
    model = randomise(build("layer_norm"), scale=0.3)
    before = keras.Model(model.input, model.get_layer("stem").output)
    after = keras.Model(model.input, model.get_layer("stage0_block0").output)
    features = numpy(before(images()))
    block = ConvNeXtBlock(layer_scale=None, name="block")
    block.build(features.shape)
    names = {"dwconv": "conv1", "norm": "conv1_norm", "pwconv1": "conv2", "pwconv2": "conv3"}
    for name, part in names.items():
        kernels = model.get_layer(f"stage0_block0_{part}").get_weights()
        layer = getattr(block, name)
        shaped = zip(kernels, layer.get_weights(), strict=True)
        layer.set_weights([mine.reshape(theirs.shape) for mine, theirs in shaped])
    assert error(numpy(block(features)), numpy(after(images()))) < TOLERANCE


@on_one_backend
@pytest.mark.parametrize(("old", "new"), [("roadmap", "build"), ("table", "print_table")])
def test_old_names_still_work(old, new):
    with pytest.warns(DeprecationWarning, match=f"roadmap.{new}"):
        assert getattr(roadmap, old) is getattr(roadmap, new)


@on_one_backend
def test_two_steps_fit_in_one_graph():
    """With names of their own, which also begin the names of their layers."""
    image = {"input_shape": (16, 16, 3)}
    one, two = (build("gelu", name=name, **image) for name in ("one", "two"))
    both = keras.layers.Average()([one.output, two.output])
    assert len(keras.Model([one.input, two.input], both).layers) == len(one.layers) * 2 + 1
    assert one.get_layer("one__stage0_block0_conv1").name == "one__stage0_block0_conv1"
    assert build(LAST, name="mine", **image).get_layer("stem").name == "mine__stem"

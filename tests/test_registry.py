"""The registry's rows against their schema, their architectures and the inventory they came from.

The inventory is `../shared/checkpoints.json`; the tests that read it are skipped without it.
"""

import collections
import dataclasses
import importlib.resources
import itertools
import json
import math
import re
from pathlib import Path

import pytest

from keras_convnext.pretrained import registry
from keras_convnext.variants import VARIANTS, Variant
from tests.backends import on_one_backend

pytestmark = on_one_backend
SHARED = Path(__file__).resolve().parents[2] / "shared"
ROWS = registry.rows()
UPERNETS = registry.rows("segmentation")
DETECTORS = registry.rows("detection")
SOURCES = [(row, source) for row in ROWS for source in row.sources]
TEXT = (
    importlib.resources.files("keras_convnext.pretrained.registry") / "registry.json"
).read_text()
# Rows of the inventory that are no classifier or encoder on its own.
OUT_OF_SCOPE = re.compile(r"v1-downstream-(coco|ade20k)")
HEADS = ("mask_rcnn", "cascade_mask_rcnn")
LEFT_OUT = {"mmpretrain/spark_sparse-convnextv2-tiny_800e_in1k"}


def read_shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"needs ../shared/{name}")
    return json.loads((SHARED / name).read_text())


def inventory():
    entries = read_shared("checkpoints.json")["rows"]
    wanted = (e for e in entries if not OUT_OF_SCOPE.fullmatch(e["family"]))
    return {e["id"]: e for e in wanted if e["id"] not in LEFT_OUT}


def ids(rows):
    return [row.name for row in rows]


# ---------------------------------------------------------------- schema


def is_int(low, high):
    return lambda value: type(value) is int and low <= value <= high


def is_number(low, high):
    return lambda value: type(value) in (int, float) and low <= value <= high


def one_of(*allowed):
    return lambda value: value in allowed


def matches(pattern):
    return lambda value: type(value) is str and re.fullmatch(pattern, value) is not None


def optional(check):
    return lambda value: value is None or check(value)


def tuple_of(check):
    return lambda value: type(value) is tuple and all(check(item) for item in value)


def instance(kind):
    return lambda value: type(value) is kind


BOOL = one_of(True, False)
SENTENCE = matches(r"[^\s].*\.")
HTTPS = matches(r"https://[A-Za-z0-9.-]+/\S*")

SCHEMA = {
    registry.Row: {
        "variant": one_of(*VARIANTS),
        "tag": matches(r"[a-z0-9]+(_[a-z0-9]+)*"),
        "family": one_of(
            *("v1", "v1-nonema", "v1-isotropic", "v2", "v2-fcmae", "timm", "clip", "clip-ft"),
            *("open_clip", "dinov3", "eupe", "torchvision", "keras.applications", "mmpretrain"),
        ),
        "id": matches(r"[A-Za-z0-9_./-]+"),
        "classes": one_of(0, 512, 640, 768, 1000, 1024, 11821, 21841),
        "label_set": one_of("imagenet1k", "imagenet12k", "imagenet22k", "clip", None),
        "params": is_int(100_000, 1_000_000_000),
        "size": one_of(160, 224, 256, 320, 384, 512),
        "crop_pct": is_number(0.875, 1),
        "resize_mode": one_of(*registry.RESIZE_MODES),
        "interpolation": one_of(*registry.INTERPOLATIONS),
        "licence": instance(registry.Licence),
        "accuracy": tuple_of(instance(registry.Accuracy)),
        "sources": tuple_of(instance(registry.Source)),
        "overrides": instance(dict),
        "test_size": optional(one_of(288)),
        "test_crop_pct": optional(is_number(0.875, 1)),
        "resize_size": optional(is_int(225, 255)),
        "first_logits": optional(tuple_of(is_number(-10, 10))),
        "note": optional(SENTENCE),
        "head": one_of(None),
    },
    registry.Licence: {
        "name": matches(r"[A-Za-z0-9. -]+"),
        "url": HTTPS,
        "non_commercial": BOOL,
        "gated": BOOL,
        "notice": optional(SENTENCE),
        "remark": optional(SENTENCE),
    },
    registry.Accuracy: {
        "top1": is_number(40, 95),
        "top5": optional(is_number(70, 100)),
        "size": optional(one_of(160, 224, 256, 288, 320, 384, 512)),
        "source": matches(r"\S.{8,}"),
        "crop_pct": optional(is_number(0.875, 1)),
        "zero_shot": BOOL,
        "mean_iou": one_of(None),
        "scales": one_of(1),
        "box_ap": one_of(None),
        "mask_ap": one_of(None),
    },
    registry.Source: {
        "repo": optional(matches(r"(timm|facebook|laion)/[A-Za-z0-9._-]+")),
        "file": optional(
            one_of("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
        ),
        "revision": optional(matches(r"[0-9a-f]{40}")),
        "url": optional(HTTPS),
        "sha256": optional(matches(r"[0-9a-f]{64}")),
        "sha256_prefix": optional(matches(r"[0-9a-f]{8}")),
        "size": optional(is_int(100_000, 5_000_000_000)),
        "gated": BOOL,
        "top": BOOL,
    },
}

NONE = one_of(None)
UPERNET_SCHEMA = {
    **SCHEMA,
    registry.Row: {
        **SCHEMA[registry.Row],
        "head": one_of("upernet"),
        "family": one_of("v1", "mmsegmentation"),
        "classes": one_of(150),
        "label_set": one_of("ade20k"),
        "size": one_of(512, 640),
        **dict.fromkeys(("crop_pct", "resize_mode", "interpolation", "first_logits"), NONE),
        "overrides": one_of({}),
    },
    registry.Accuracy: {
        **dict.fromkeys(SCHEMA[registry.Accuracy], NONE),
        "mean_iou": is_number(40, 60),
        "scales": one_of(1, 6),
        "size": one_of(512, 640),
        "source": matches(r"\S.{8,}"),
        "zero_shot": one_of(False),
    },
    registry.Source: {
        **SCHEMA[registry.Source],
        "repo": optional(matches(r"openmmlab/upernet-convnext-[a-z]+")),
    },
}


DETECTOR_SCHEMA = {
    **SCHEMA,
    registry.Row: {
        **UPERNET_SCHEMA[registry.Row],
        "head": one_of(*HEADS),
        "family": one_of("v1", "mmdetection"),
        "tag": matches(r"(fb|mm)_in(1|22)k_ft_coco"),
        "classes": one_of(80),
        "label_set": one_of("coco"),
        "size": one_of(800),
    },
    registry.Accuracy: {
        **dict.fromkeys(SCHEMA[registry.Accuracy], NONE),
        "box_ap": is_number(46, 56),
        "mask_ap": is_number(41, 48),
        "size": one_of(800),
        "source": matches(r"\S.{8,}"),
        "zero_shot": one_of(False),
        "scales": one_of(1),
    },
    registry.Source: {**SCHEMA[registry.Source], "repo": NONE, "file": NONE},
}


def schema_errors(record, schema=SCHEMA):
    checks = schema[type(record)]
    assert set(checks) == {field.name for field in dataclasses.fields(record)}
    return {
        name: getattr(record, name) for name in checks if not checks[name](getattr(record, name))
    }


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_every_field_has_its_type_and_range(row):
    for record in (row, row.licence, *row.accuracy, *row.sources):
        assert schema_errors(record) == {}


@pytest.mark.parametrize("row", UPERNETS, ids=ids(UPERNETS))
def test_every_field_of_an_upernet_has_its_type_and_range(row):
    for record in (row, row.licence, *row.accuracy, *row.sources):
        assert schema_errors(record, UPERNET_SCHEMA) == {}
    assert [score.scales for score in row.accuracy] == [1, 6]
    assert row.mean_iou < row.mean_iou_multi_scale
    assert f"_ft_ade20k_{row.size}" in row.tag and row.tag[:3] in ("fb_", "mm_")
    assert (row.name, row.task) == (f"upernet_{row.variant}.{row.tag}", "segmentation")


@pytest.mark.parametrize("row", DETECTORS, ids=ids(DETECTORS))
def test_every_field_of_a_detector_has_its_type_and_range(row):
    for record in (row, row.licence, *row.accuracy, *row.sources):
        assert schema_errors(record, DETECTOR_SCHEMA) == {}
    assert (row.name, row.task) == (f"{row.head}_{row.variant}.{row.tag}", "detection")
    assert row.mask_ap < row.box_ap == row.accuracy[0].box_ap
    (source,) = row.sources
    assert row.id in source.url and row.id.startswith(f"{row.head}_convnext")
    assert source.sha256_prefix is None or source.url.endswith(f"-{source.sha256_prefix}.pth")


def test_the_old_name_of_the_size_of_crops():
    with pytest.warns(DeprecationWarning, match="now called `Row.size`"):
        assert UPERNETS[0].crop == UPERNETS[0].size == 512


def test_a_classifier_without_its_transform_is_no_row():
    with pytest.raises(ValueError, match="convnext_tiny.fb_in1k: .* needs crop_pct"):
        dataclasses.replace(ROWS[0], crop_pct=None)


def test_the_schema_notices_a_wrong_value():
    source = dataclasses.replace(ROWS[0].sources[0], sha256="ABC")
    assert schema_errors(source) == {"sha256": "ABC"}


def first_of(data, *path):
    for key in path:
        data = data[key]
    return data


@pytest.mark.parametrize(
    "path",
    [("rows", 0), ("rows", 0, "sources", 0), ("rows", 0, "accuracy", 0), ("licences", "apache")],
    ids=["row", "source", "accuracy", "licence"],
)
def test_an_unknown_key_fails(path):
    data = json.loads(TEXT)
    first_of(data, *path)["colour"] = "blue"
    with pytest.raises(TypeError, match="colour"):
        registry.parse(json.dumps(data))


@pytest.mark.parametrize("key", ["licence", "params", "sources"])
def test_a_missing_key_fails(key):
    data = json.loads(TEXT)
    del data["rows"][0][key]
    with pytest.raises((TypeError, KeyError), match=key):
        registry.parse(json.dumps(data))


@pytest.mark.parametrize("key", ["licence", "source"])
def test_an_unknown_licence_or_reference_fails(key):
    data = json.loads(TEXT)
    row = data["rows"][0]
    (row if key == "licence" else row["accuracy"][0])[key] = "nobody"
    with pytest.raises(KeyError, match="nobody"):
        registry.parse(json.dumps(data))


def test_no_key_is_written_twice():
    def strict(pairs):
        keys = [key for key, _ in pairs]
        assert len(set(keys)) == len(keys), keys
        return dict(pairs)

    data = json.loads(TEXT, object_pairs_hook=strict)
    assert set(data) == {"licences", "references", "rows"}


def test_every_licence_and_reference_is_used():
    data = json.loads(TEXT)
    assert {row["licence"] for row in data["rows"]} == set(data["licences"])
    scores = itertools.chain.from_iterable(row["accuracy"] for row in data["rows"])
    assert {score["source"] for score in scores} == set(data["references"])


# ---------------------------------------------------------------- what fields say together


def test_names_are_unique_and_never_mean_two_rows():
    every = ROWS + UPERNETS + DETECTORS
    counts = collections.Counter(row.name for row in every)
    counts.update(row.id for row in every)
    counts.update(list(VARIANTS))
    assert [name for name, count in counts.items() if count > 1] == []


def test_rows_are_ordered_by_variant():
    for found in (ROWS, UPERNETS, DETECTORS):
        order = [list(VARIANTS).index(row.variant) for row in found]
        assert order == sorted(order)


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_label_set_agrees_with_classes(row):
    if row.label_set is None:
        assert row.classes == 0
    elif row.label_set == "clip":
        assert row.classes in (512, 640, 768, 1024)
        assert row.family in ("clip", "open_clip")
    else:
        assert row.classes == registry.LABEL_SETS[row.label_set]


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_every_row_can_be_fetched(row):
    assert any(source.top and not source.gated for source in row.sources)
    assert len({(s.repo, s.file, s.url) for s in row.sources}) == len(row.sources)
    on_hub = [
        source.repo is not None
        for source in row.sources
        if source.repo is None or "timm/" in source.repo
    ]
    assert on_hub == sorted(on_hub, reverse=True), "timm's hub files come first"


@pytest.mark.parametrize(
    ("row", "source"), SOURCES, ids=[f"{row.name}-{source.file_name}" for row, source in SOURCES]
)
def test_a_source_is_a_hub_file_or_an_address(row, source):
    on_hub = (source.repo is not None, source.file is not None)
    assert on_hub == (source.url is None,) * 2
    assert re.fullmatch(
        r"[A-Za-z0-9][A-Za-z0-9._-]*\.(safetensors|bin|pth|pt|h5)", source.file_name
    )
    assert source.revision is None or source.repo is not None
    assert (
        source.sha256_prefix is None
        or source.sha256_prefix in source.file_name
        or (source.url.startswith("https://github.com/rwightman/"))
    )
    assert source.top == ("notop" not in source.file_name)
    assert not source.gated or row.licence.gated


def test_no_hash_stands_for_two_files():
    hashes = collections.defaultdict(set)
    for _, source in SOURCES:
        if source.sha256:
            hashes[source.sha256].add((source.repo, source.file, source.url))
    assert len(hashes) > 30
    assert [places for places in hashes.values() if len(places) > 1] == []


def test_non_commercial_and_gated_licences_have_a_notice():
    for row in ROWS:
        must_tell = row.licence.non_commercial or row.licence.gated
        assert bool(row.licence.notice) == must_tell, row.name
    assert {row.licence.name for row in ROWS if row.licence.non_commercial} == {
        "CC-BY-NC-4.0",
        "FAIR Noncommercial Research License",
    }
    assert {row.family for row in ROWS if row.licence.gated} == {"dinov3"}


def test_convnext_v2_of_the_authors_is_non_commercial():
    families = {row.family for row in ROWS if row.licence.name == "CC-BY-NC-4.0"}
    assert families == {"v2", "v2-fcmae"}
    assert all(r.licence.name == "CC-BY-NC-4.0" for r in ROWS if r.family in families)


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_input_fields_agree(row):
    assert (row.test_size is None) == (row.test_crop_pct is None)
    if row.resize_mode == "squash":
        assert row.size >= 384 and row.crop_pct == 1
    if row.resize_size is not None:
        assert round(row.size / row.resize_size, 4) == row.crop_pct
    if row.test_size is not None:
        scores = {score.size: score.top1 for score in row.accuracy if "timm" in score.source}
        assert scores[row.test_size] > scores[row.size]


def test_the_checkpoint_that_collapses_at_288_is_tested_at_224():
    row = registry.find("convnext_tiny.fb_in22k_ft_in1k")
    assert row.test_size is None and row.test_crop_pct is None and "288" in row.note
    assert (288, 78.95) in {(score.size, score.top1) for score in row.accuracy}


def test_convnext_v2_names_with_22k_have_1000_classes():
    rows = [row for row in ROWS if row.variant.startswith("convnextv2") and "22k" in row.id]
    assert len(rows) == 10
    assert {row.classes for row in rows} == {1000}


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_top1_is_the_first_score_at_the_size(row):
    if row.classes != 1000:
        assert row.top1 is None
    elif row.top1 is None:
        assert row.accuracy == ()
    else:
        assert row.top1 in [score.top1 for score in row.accuracy if score.size == row.size]


def test_top1_prefers_the_authors_score_and_ignores_zero_shot():
    assert registry.find("convnext_tiny.fb_in1k").top1 == 82.1
    tower = registry.find("convnext_base.clip_laion2b")
    assert tower.accuracy[0].zero_shot and tower.accuracy[0].top1 == 70.8 and tower.top1 is None


# ---------------------------------------------------------------- architecture


def norm_params(arch, width):
    return width * (1 if arch.norm == "simplenorm" else 2)


def stem_params(arch):
    """A convolution of side k from a to b channels has k*k*a*b weights and b biases."""
    width = arch.dims[0]
    norm = norm_params(arch, width) if arch.stem_norm else 0
    if arch.stem == "patch":
        return 3 * arch.stem_stride**2 * width + width + norm
    middle = width
    if arch.stem == "overlap_tiered":  # half, to the nearest multiple of 8
        middle = (width // 2 + 4) // 8 * 8
    return (27 * middle + middle) + (9 * middle * width + width) + norm


def block_params(arch, width, kernel):
    depthwise = kernel**2 * width + width
    pointwise = (width * 4 * width + 4 * width) + (4 * width * width + width)
    grn = 2 * 4 * width if arch.grn else 0
    scale = width if arch.layer_scale is not None else 0
    return depthwise + norm_params(arch, width) + pointwise + grn + scale


def downsample_params(arch, before, after):
    return norm_params(arch, before) + 4 * before * after + after


def head_params(arch, classes):
    width, total = arch.dims[-1], 0
    if arch.head_norm or classes:
        total += norm_params(arch, width)
    if not classes:
        return total
    if arch.head_hidden:
        total += width * arch.head_hidden + arch.head_hidden
        width = arch.head_hidden
    return total + width * classes + (classes if arch.head_bias else 0)


def count_params(arch, classes):
    stages = zip(arch.depths, arch.dims, arch.kernel_sizes, strict=True)
    blocks = sum(depth * block_params(arch, width, kernel) for depth, width, kernel in stages)
    downsamples = sum(downsample_params(arch, a, b) for a, b in itertools.pairwise(arch.dims))
    return stem_params(arch) + blocks + downsamples + head_params(arch, classes)


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_params_follow_from_the_architecture(row):
    assert count_params(row.architecture(), row.classes) == row.params


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_overrides_change_what_they_name_and_nothing_else(row):
    arch, variant = row.architecture(), VARIANTS[row.variant]
    assert isinstance(arch, Variant)
    changed = {
        field.name
        for field in dataclasses.fields(Variant)
        if getattr(arch, field.name) != getattr(variant, field.name)
    }
    assert changed == set(row.overrides)


def test_architecture_of_the_inventory():
    entries = inventory()
    for row in ROWS:
        arch, entry = row.architecture(), entries[row.id]
        told, head, given = entry["arch"], entry["arch"]["head"], entry["input"]
        assert arch.depths == tuple(told["depths"]), row.name
        assert arch.dims == tuple(told["dims"]), row.name
        assert arch.kernel_sizes == tuple(told["kernel_sizes"]), row.name
        assert arch.stem == told["stem"]["type"], row.name
        assert arch.stem_stride == told["stem"]["patch_size"], row.name
        assert arch.stem_norm == (not told.get("isotropic", False)), row.name
        assert arch.activation == told["act"].removesuffix("_exact"), row.name
        assert arch.norm == told["norm"]["type"], row.name
        assert arch.epsilon == told["norm"]["eps"] == told["norm"]["final_eps"], row.name
        assert arch.layer_scale == told["layer_scale_init"], row.name
        assert arch.grn == told["grn"], row.name
        assert arch.head_norm_first == (head["order"] == "norm-pool-fc"), row.name
        assert arch.head_norm == head["final_norm"], row.name
        assert arch.head_hidden == head["hidden"], row.name
        assert arch.head_bias == head["fc_bias"], row.name
        assert (arch.mean, arch.std) == (tuple(given["mean"]), tuple(given["std"])), row.name


# ---------------------------------------------------------------- the inventory


def test_nothing_in_scope_is_missing():
    assert {row.id for row in ROWS} == set(inventory())
    assert len(ROWS) == 137


def test_numbers_of_the_inventory():
    modes = {"center": "shortest", "squash": "squash"}
    entries = inventory()
    for row in ROWS:
        entry = entries[row.id]
        given = entry["input"]
        assert row.params == entry["params"], row.name
        assert row.classes == entry["arch"]["num_classes"], row.name
        assert row.family == entry["family"].removesuffix("-full"), row.name
        assert row.size == given["res"] and row.crop_pct == given["crop_pct"], row.name
        assert row.resize_mode == modes[given["crop_mode"]], row.name
        assert row.interpolation == given["interpolation"], row.name
        assert row.resize_size == given.get("resize_size"), row.name
        assert entry.get("timm_name") in (None, row.name), row.name
        assert entry.get("label_set") is None or entry["label_set"].startswith(row.label_set)
        if row.name != "convnext_tiny.fb_in22k_ft_in1k":
            assert row.test_size == given["test_res"], row.name
            assert row.test_crop_pct == given["test_crop_pct"], row.name


def published_score(metric):
    top1 = metric.get("top1", metric.get("zero_shot_top1"))
    where = metric["source"].removesuffix(" (stored copy)")
    rest = [metric.get(key) for key in ("top5", "res", "crop_pct")]
    return (top1, *rest, where, "zero_shot_top1" in metric)


def test_accuracies_of_the_inventory():
    entries = inventory()
    for row in ROWS:
        scores = [(a.top1, a.top5, a.size, a.crop_pct, a.source, a.zero_shot) for a in row.accuracy]
        assert scores == [published_score(m) for m in entries[row.id]["metrics"]], row.name


def strings(value):
    """Every string in a nest of dicts and lists."""
    if isinstance(value, str):
        return {value}
    children = value.values() if isinstance(value, dict) else value
    return set().union(*map(strings, children)) if isinstance(value, (dict, list)) else set()


def test_sources_are_those_of_the_inventory():
    """No address, hash or revision that the inventory does not hold for the same file."""
    entries = inventory()
    for row, source in SOURCES:
        entry = entries[row.id]
        known = strings(entry["urls"]) | strings(entry["hashes"])
        told = (source.repo, source.url, source.revision, source.sha256, source.sha256_prefix)
        assert {value for value in told if value is not None} <= known, row.name
        pins = [h for h in entry["hashes"] if h["file"] == source.file_name and "repo" in h]
        pins = [h for h in pins if h["repo"] == source.repo and "refs/pr" not in h["note"]]
        expected = [(h["revision"], h["sha256"]) for h in pins] or [(None, None)]
        assert source.repo is None or (source.revision, source.sha256) in expected, row.name
        assert source.size is None, "sizes in bytes are not in the inventory"


def test_first_host_of_the_inventory_comes_first():
    entries = inventory()
    for row in ROWS:
        urls, first = entries[row.id]["urls"], row.sources[0]
        if "hf_timm" in urls:
            assert (first.repo, first.file) == (urls["hf_timm"]["repo"], "model.safetensors")
        elif "official" in urls:
            assert first.url == urls["official"]
        elif "open_clip" in urls:
            assert first.repo == urls["open_clip"]["repo"]
        else:
            assert first.url in strings(urls)


def test_first_logits_are_those_published():
    published = read_shared("published_logits.json")
    expected = {**published["first_logits_v1"], **published["first_logits_v2"]}
    for variant, values in published["dinov3"].items():
        expected[f"timm/{variant}.dinov3_lvd1689m"] = values["pooled"]
    told = {row.id: list(row.first_logits) for row in ROWS if row.first_logits is not None}
    assert told == expected
    assert registry.FIRST_LOGITS_IMAGE in published["image"]
    assert published["tolerance"] == registry.FIRST_LOGITS_TOLERANCE


# ---------------------------------------------------------------- find, tags, search


@pytest.mark.parametrize("row", ROWS, ids=ids(ROWS))
def test_every_row_is_found_by_each_of_its_names(row):
    assert registry.find(row.name) is row
    assert registry.find(row.id) is row
    assert registry.find(row.tag, row.variant) is row
    assert registry.find(row.name, variant=row.variant) is row
    assert registry.find(row.id, variant=row.variant) is row
    assert row.tag in registry.tags(row.variant)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("convnext_tiny_1k_224_ema", "convnext_tiny.fb_in1k"),
        ("convnext_tiny_1k_224", "convnext_tiny.fb_in1k_nonema"),
        ("convnext_base_1k_384", "convnext_base.fb_in1k_384"),
        ("timm/convnext_atto.d2_in1k", "convnext_atto.d2_in1k"),
        ("convnextv2_base_22k_384_ema", "convnextv2_base.fcmae_ft_in22k_in1k_384"),
        ("keras.applications/convnext_xlarge", "convnext_xlarge.keras_in22k_ft_in1k"),
        ("torchvision/convnext_large.IMAGENET1K_V1", "convnext_large.tv_in1k"),
        ("mmpretrain/convnext-tiny_32xb128-noema_in1k", "convnext_tiny.mmpretrain_in1k_noema"),
        (
            "open_clip/convnext_base_w_320/laion_aesthetic_s13b_b82k",
            "convnext_base.laion_aesthetic_s13b_b82k_320",
        ),
    ],
)
def test_names_of_other_publishers(name, expected):
    assert registry.find(name).name == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_imagenet_for_every_variant(variant):
    classifiers = [row for row in ROWS if row.variant == variant and row.classes == 1000]
    if not classifiers:
        with pytest.raises(ValueError, match=f'no "imagenet" weights of {variant}'):
            registry.find("imagenet", variant)
        return
    row = registry.find("imagenet", variant)
    assert row in classifiers
    assert row.label_set == "imagenet1k" and row.size <= 256


def test_the_imagenet_table_names_no_other_variant():
    assert set(registry.IMAGENET) == set(VARIANTS) - {"convnextv2_small"}


@pytest.mark.parametrize("name", ["tiny", "small", "base", "large", "xlarge"])
def test_imagenet_is_what_keras_applications_loads(name):
    row = registry.find("imagenet", f"convnext_{name}")
    theirs = registry.find(f"keras.applications/convnext_{name}")
    assert theirs.tag == row.tag.replace("fb_", "keras_")
    shared = {source.sha256 for source in row.sources} & {s.sha256 for s in theirs.sources if s.top}
    assert shared - {None}, "both name the same file of keras.applications"


@pytest.mark.parametrize(
    ("name", "variant", "says"),
    [
        ("fb_in1kk", "convnext_tiny", r"'fb_in1kk'.*Nearest: fb_in1k,.*convnext_tiny: fb_in1k, fb"),
        ("fb_in1k_384", "convnext_tiny", r"Nearest: .*fb_in22k_ft_in1k_384"),
        ("convnext_tny.fb_in1k", None, r"Nearest: convnext_tiny\.fb_in1k"),
        ("fb_in1k", None, r"say which: convnext_tiny\.fb_in1k, convnext_small\.fb_in1k"),
        (
            "convnext_base.fb_in1k",
            "convnext_tiny",
            r"belong to convnext_base, not to convnext_tiny",
        ),
        ("convnext_base_1k_384", "convnext_tiny", r"belong to convnext_base, not to convnext_tiny"),
        ("fb_in1k", "convnxt_tiny", r"Unknown variant 'convnxt_tiny'. Nearest: convnext_tiny"),
        ("imagenet", None, r"need a variant.*convnext_tiny, convnext_small"),
        ("imagenet", "convnextv2_small", r"No weights of convnextv2_small.*convnextv2_tiny"),
        (
            "fcmae",
            "convnextv2_small",
            r"elsewhere: convnextv2_atto\.fcmae, .*No weights of convnextv2",
        ),
        ("", "convnext_tiny", r"Unknown weights '' for convnext_tiny\. Published .*: fb_in1k"),
        ("zzzzzz", None, r"Unknown weights 'zzzzzz'\. All names"),
    ],
)
def test_unknown_names_say_what_exists(name, variant, says):
    with pytest.raises(ValueError, match=says):
        registry.find(name, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_alone_stands_for_its_usual_weights(variant):
    if variant == "convnextv2_small":
        with pytest.raises(ValueError, match="No weights of convnextv2_small"):
            registry.find(variant)
    else:
        assert registry.find(variant) is registry.find("imagenet", variant)
        assert registry.find(variant, variant) is registry.find(variant)


@pytest.mark.parametrize("row", UPERNETS, ids=ids(UPERNETS))
def test_upernets_are_found_by_each_of_their_names(row):
    for name, variant in ((row.name, None), (row.id, None), (row.tag, row.variant)):
        assert registry.find(name, variant, "segmentation") is row
    usual = registry.find(f"upernet_{row.variant}", task="segmentation")
    assert usual is registry.find("ade20k", row.variant, "segmentation")
    assert usual.tag.startswith("fb_") and usual.mean_iou >= row.mean_iou - 0.5
    with pytest.raises(ValueError, match=f"{row.name}. names weights for segmentation, asked"):
        registry.find(row.name)
    with pytest.raises(ValueError, match="for segmentation, asked for was classification"):
        registry.find(row.tag, row.variant)


@pytest.mark.parametrize(
    ("name", "variant", "task", "says"),
    [
        ("convnxt_tiny", None, "classification", "Nearest: convnext_tiny,"),
        ("upernet_convnext_tinny", None, "segmentation", "Nearest: upernet_convnext_tiny,"),
        ("ade20k", "convnextv2_tiny", "segmentation", "No UperNet weights of convnextv2_tiny"),
        ("ade20k", None, "segmentation", 'Weights "ade20k" need a variant.*convnext_xlarge'),
        ("fb", "convnext_base", "segmentation", "Published for convnext_base: fb_in1k_ft_ade20k"),
        (
            "mask_rcnn_convnext_base",
            None,
            "detection",
            "No Mask R-CNN weights of convnext_base were published; use weights=None",
        ),
        ("cascade_mask_rcnn_convnext_tinny", None, "detection", "Nearest: cascade_mask_rcnn_conv"),
        ("nonsense", None, "detection", "Published are: mask_rcnn_convnext_tiny.fb_in1k_ft_coco,"),
        (
            "coco",
            "convnext_tiny",
            "detection",
            "'coco' may be mask_rcnn_convnext_tiny.fb_in1k_ft_coco or cascade_mask_rcnn_convnext_"
            "tiny.fb_in1k_ft_coco: say which, or give `head`",
        ),
        ("coco", None, "detection", 'Weights "coco" need a variant: say .*mask_rcnn_convnext_tiny'),
        ("mask_rcnn_convnext_tiny", None, "segmentation", "for detection, asked for was segm"),
        ("convnext_tiny", None, "depth", "Unknown task 'depth'.*Known: classification, segm"),
    ],
)
def test_unknown_names_of_each_task(name, variant, task, says):
    with pytest.raises(ValueError, match=says):
        registry.find(name, variant, task)


@pytest.mark.parametrize("row", DETECTORS, ids=ids(DETECTORS))
def test_detectors_are_found_by_each_of_their_names(row):
    for name, variant, head in (
        (row.name, None, None),
        (row.id, row.variant, row.head),
        (row.tag, row.variant, row.head),
    ):
        assert registry.find(name, variant, "detection", head) is row
    usual = registry.find(f"{row.head}_{row.variant}", task="detection")
    assert usual is registry.find("coco", row.variant, "detection", row.head)
    assert usual.tag.startswith("fb_") and usual.box_ap >= row.box_ap
    with pytest.raises(ValueError, match="names weights for detection, asked for was classif"):
        registry.find(row.name)
    other = next(head for head in HEADS if head != row.head)
    with pytest.raises(ValueError, match="names weights of a .*R-CNN, asked for was a .*R-CNN"):
        registry.find(row.name, row.variant, "detection", other)


def test_the_head_tells_detectors_with_equal_tags_apart():
    assert registry.tags("convnext_tiny", "detection") == ("fb_in1k_ft_coco", "mm_in1k_ft_coco")
    assert registry.tags("convnext_small", "detection", "mask_rcnn") == ()
    for head in HEADS:
        assert registry.find("mm_in1k_ft_coco", "convnext_tiny", "detection", head).head == head
    with pytest.raises(ValueError, match="'mm_in1k_ft_coco' may be mask_rcnn_.* or cascade_"):
        registry.find("mm_in1k_ft_coco", "convnext_tiny", "detection")
    with pytest.raises(ValueError, match="Unknown head 'yolo'.*Known: mask_rcnn, cascade_mask_r"):
        registry.find("coco", "convnext_tiny", "detection", "yolo")


def test_detectors_of_the_inventory():
    entries = {e["id"]: e for e in read_shared("checkpoints.json")["rows"]}
    wanted = {e["id"] for e in entries.values() if e["family"] == "v1-downstream-coco"}
    assert wanted == {row.id for row in DETECTORS if row.family == "v1"}
    for row in DETECTORS:
        if row.family == "v1":
            (metric,) = entries[row.id]["metrics"]
            box_ap, mask_ap, params = metric["cells"][4:7]
            assert (row.box_ap, row.mask_ap) == (float(box_ap), float(mask_ap)), row.name
            assert f"{row.params / 1e6:.0f}M" == params, row.name
            assert row.sources[0].url == entries[row.id]["urls"]["official"]


def test_search_of_a_task():
    found = registry.search(task="segmentation", variant="convnext_base", licence="apache-2.0")
    assert [row.tag[:2] for row in found] == ["mm", "mm"]
    with pytest.raises(ValueError, match="Unknown label_set 'imagenet1k'.*Known: ade20k"):
        registry.search(task="segmentation", label_set="imagenet1k")


def test_tags():
    assert registry.tags("convnextv2_small") == ()
    assert registry.tags("convnext_tiny")[:2] == ("fb_in1k", "fb_in22k")
    with pytest.raises(ValueError, match="Nearest: convnext_tiny"):
        registry.tags("convnext_tini")


def test_search_without_conditions_gives_all_rows():
    assert registry.search() == ROWS


def test_search_meets_every_condition():
    found = registry.search(
        family="v1", licence="mit", size=384, max_params=90_000_000, min_top1=85
    )
    assert ids(found) == [
        "convnext_small.fb_in22k_ft_in1k_384",
        "convnext_base.fb_in1k_384",
        "convnext_base.fb_in22k_ft_in1k_384",
    ]
    assert {row.family for row in registry.search(licence="cc-by-nc-4.0")} == {"v2", "v2-fcmae"}
    assert ids(registry.search(variant="convnext_nano", label_set="imagenet12k")) == [
        "convnext_nano.in12k",
        "convnext_nano.r384_in12k",
        "convnext_nano.r384_ad_in12k",
    ]
    assert registry.search(variant="convnextv2_small") == ()
    assert registry.search(size=225) == ()


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"family": "v3"}, "Unknown family 'v3'.*Known: v1, "),
        ({"licence": "GPL"}, "Unknown licence 'GPL'.*MIT"),
        (
            {"variant": "convnext_huge"},
            "Unknown variant 'convnext_huge'. Nearest: .*convnextv2_huge",
        ),
        ({"label_set": "imagenet"}, "Unknown label_set 'imagenet'. Nearest: .*imagenet1k"),
        ({"min_top1": "87"}, "`min_top1` must be None or a number in"),
        ({"max_params": math.nan}, "`max_params` must be None or a number"),
    ],
)
def test_search_for_what_no_row_has(condition, says):
    with pytest.raises(ValueError, match=says):
        registry.search(**condition)


def test_rows_are_read_once_and_can_be_printed_as_json():
    assert registry.rows() == ROWS and registry.table.all_rows() is registry.table.all_rows()
    assert json.loads(json.dumps([dataclasses.asdict(row) for row in ROWS]))[0]["tag"] == "fb_in1k"
    assert len(set(ROWS)) == len(ROWS)

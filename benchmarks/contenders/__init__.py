"""The table of contenders; the files beside it build their models and run their steps.

Every contender has random weights, no preprocessing inside, no stochastic depth, 1000 classes and
logits as its output, and goes through what its user calls. All but the peers of `peers.py` have the
same architecture. The tasks of `users.py` say themselves what they have.
"""

import dataclasses

from benchmarks.configuration import TASKS, USER_TASKS


@dataclasses.dataclass(frozen=True)
class Contender:
    """One contender.

    Attributes:
        name: what `--contenders` and the tables call it.
        about: for `--help`.
        libraries: modules that are imported before memory is looked at and the building begins.
        build: `"module:function"` of this package; the function takes a `Configuration` and
            returns a step: a callable that does the work once and returns its result, arrived.
        options: keyword arguments of that function.
        environment: variables of the contender's process, beside `ENVIRONMENT`.
        tasks: those that it can do.
        gpu: `True` if it stands in the default list only where there is a GPU, `False` if only
            where there is none.
        exported: the kind of ONNX file that it runs, of `exported.WRITERS`, or `None`.
        peer: the kind of another architecture that it is, of `peers.PEERS`, or `None`.
    """

    name: str
    about: str
    libraries: tuple
    build: str
    options: dict = dataclasses.field(default_factory=dict)
    environment: dict = dataclasses.field(default_factory=dict)
    tasks: tuple = TASKS
    gpu: bool | None = None
    exported: str | None = None
    peer: str | None = None


ENVIRONMENT = {  # of every contender
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # the first step compiles, whatever earlier runs left behind
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
    # several processes share a GPU: memory is taken when it is needed
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
INFERENCE = ("inference",)
TRAINING = ("training",)
PRODUCT = ("product",)  # none of `TASKS`: it is measured beside each of them
BACKENDS = ("tensorflow", "jax", "torch")


def _keras(backend, **kwargs):
    return Contender(environment={"KERAS_BACKEND": backend}, **kwargs)


def _ours(backend):
    libraries = ("keras", "keras_convnext")
    return (
        _keras(
            backend,
            name=backend,
            about="keras_convnext: predict_on_batch, train_on_batch",
            libraries=libraries,
            build="keras_models:ours",
            tasks=TASKS + USER_TASKS,
        ),
        _keras(
            backend,
            name=f"{backend}-call",
            about="keras_convnext: model(x)"
            + ", under torch.inference_mode()" * (backend == "torch"),
            libraries=libraries,
            build="keras_models:ours",
            options={"call": True},
            tasks=INFERENCE,
        ),
        _keras(
            backend,
            name=f"{backend}-remat",
            about="keras_convnext: train_on_batch after rematerialize(model)",
            libraries=libraries,
            build="keras_models:ours",
            options={"remat": True},
            tasks=TRAINING,
        ),
        _keras(
            backend,
            name=f"applications-{backend}",
            about="keras.applications: predict_on_batch, train_on_batch",
            libraries=("keras", "keras.applications"),
            build="keras_models:applications",
            tasks=TASKS + USER_TASKS,
        ),
    )


def _keeping_memory(row):
    return dataclasses.replace(
        row,
        name=f"{row.name}-kept-memory",
        about=f"{row.about}; after keep_freed_memory()",
        options={"keep": True},
        gpu=False,
    )


def _by_onednn(row):
    return dataclasses.replace(
        row,
        name=f"{row.name}-onednn",
        about=f"{row.about}; with TF_ENABLE_ONEDNN_OPTS=1, usual on the newest CPUs alone",
        environment=row.environment | {"TF_ENABLE_ONEDNN_OPTS": "1"},
        gpu=False,
    )


def _pytorch(name, about, libraries, build, **options):
    gpu = True if options.get("channels_last") else None
    return Contender(
        name, about, ("torch", *libraries), f"pytorch_models:{build}", options, gpu=gpu
    )


def _transformers(name, about, kind="convnext", build="transformers", **options):
    modeling = f"transformers.models.{kind}.modeling_{kind}"
    return _pytorch(name, about, ("transformers", modeling), build, **options)


def _peer(kind, about, **options):
    """Returns the row of another architecture; compiled only where there is a GPU."""
    compiled = options.get("compiled")
    row = _transformers(
        f"transformers-{kind}" + "-compiled" * bool(compiled), about, kind, "peer", **options
    )
    return dataclasses.replace(
        row, options={"kind": kind, **options}, peer=kind, gpu=True if compiled else None
    )


def _timm(name, about, **options):
    return _pytorch(name, about, ("timm",), "timm", **options)


def _exported(library, title, kind, about):
    return Contender(
        library if kind == "ours" else f"{library}-{kind}",
        f"{title} on {about}",
        (library,),
        f"exported:{library}",
        {"kind": kind},
        tasks=INFERENCE,
        gpu=False,
        exported=kind,
    )


def _product(name, about, library, how, gpu=None):
    name, build = f"product-{name}", f"matrix_product:{how}"
    return Contender(name, about, (library,), build, tasks=PRODUCT, gpu=gpu)


AUTOTUNED = "max-autotune"
CONTENDERS = {
    row.name: row
    for row in (
        *(row for backend in BACKENDS for row in _ours(backend)),
        _keeping_memory(_ours("jax")[0]),
        _keeping_memory(_ours("tensorflow")[0]),
        _by_onednn(_ours("tensorflow")[0]),
        _transformers("transformers", "transformers, PyTorch eager"),
        _transformers("transformers-compiled", "under torch.compile", compiled=True),
        _transformers("transformers-channels-last", "eager, channels last", channels_last=True),
        _transformers(
            "transformers-autotuned",
            f'under torch.compile(mode="{AUTOTUNED}"), channels last',
            compiled=True,
            mode=AUTOTUNED,
            channels_last=True,
        ),
        _peer("swin", "Swin-T, S or B, eager, beside Tiny, Small or Base"),
        _peer("swin", "the same under torch.compile", compiled=True),
        _peer("deit", "DeiT-S or B, eager, beside Tiny or Base"),
        _peer("resnet", "ResNet-50, eager, beside Tiny"),
        _timm("timm", "timm, PyTorch eager"),
        _timm("timm-compiled", "under torch.compile", compiled=True),
        _timm("timm-channels-last", "eager, channels last", channels_last=True),
        _timm("timm-compiled-channels-last", "both of these", compiled=True, channels_last=True),
        _timm(
            "timm-autotuned",
            f'under torch.compile(mode="{AUTOTUNED}"), channels last',
            compiled=True,
            mode=AUTOTUNED,
            channels_last=True,
        ),
        *(
            _exported(library, title, kind, about)
            for library, title in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO"))
            for kind, about in (
                ("ours", "our ONNX file"),
                ("int8", "our ONNX file in int8"),
                ("transformers", "that of transformers, by PyTorch"),
                ("timm", "that of timm, by PyTorch"),
            )
        ),
        _product("numpy", "a matrix product in NumPy", "numpy", "numpy", gpu=False),
        _product("torch", "in PyTorch", "torch", "torch"),
        _product("torch-conv", "in PyTorch, as a 1x1 convolution", "torch", "torch_conv"),
        _product("tensorflow", "in TensorFlow", "tensorflow", "tensorflow"),
        _product("jax", "in JAX", "jax", "jax"),
        _product("openvino", "in OpenVINO", "openvino", "openvino", gpu=False),
    )
}
EAGER = ("transformers", "timm")  # the first that was measured is what others are compared with
PRODUCTS = tuple(name for name, row in CONTENDERS.items() if row.tasks == PRODUCT)

"""ConvNeXt of transformers and timm, and its peers, in PyTorch; eager or under `torch.compile`.

Inference takes numpy and returns numpy, under `torch.inference_mode()`. A training step is forward,
cross-entropy, backward and a step of `torch.optim.AdamW`. bfloat16 is `.to(torch.bfloat16)` for
inference and autocast for training.
"""

from benchmarks.configuration import Unsupported
from benchmarks.contenders import device, images, peers


def transformers(configuration, **options):
    return _step(transformers_model(configuration), configuration, _logits_of, **options)


def _logits_of(outputs):
    return outputs.logits


def transformers_model(configuration):
    """Returns the `torch.nn.Module` of transformers; its output has `.logits`.

    Raises:
        Unsupported: if it has no such architecture.
    """
    row = configuration.architecture
    plain = row["stem"] == "patch" and row["norm"] == "layernorm" and not row["head_hidden"]
    if not plain or set(row["kernel_sizes"]) != {7} or row["head_norm_first"]:
        raise Unsupported(f"transformers has no architecture as {configuration.variant}")
    import transformers as library

    version = "V2" if row["grn"] else ""
    config = getattr(library, f"ConvNext{version}Config")
    config = config(
        hidden_sizes=list(row["dims"]),
        depths=list(row["depths"]),
        patch_size=row["stem_stride"],
        num_labels=images.CLASSES,
        image_size=configuration.size,
        hidden_act={"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}[row["activation"]],
        drop_path_rate=0.0,
        **({} if row["grn"] else {"layer_scale_init_value": row["layer_scale"] or 0}),
    )
    return getattr(library, f"ConvNext{version}ForImageClassification")(config)


def peer(configuration, kind, **options):
    row = peers.peer_of(kind, configuration.variant)
    model = peers.model(row, configuration.size, images.CLASSES)
    return _step(model, configuration, _logits_of, **options)


def timm(configuration, **options):
    return _step(timm_model(configuration), configuration, lambda outputs: outputs, **options)


def timm_model(configuration):
    """Returns the `torch.nn.Module` of timm; its output are the logits."""
    import timm as library

    return library.create_model(configuration.variant, num_classes=images.CLASSES)


def _step(model, configuration, logits, compiled=False, mode=None, channels_last=False):
    import torch

    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device.set_precision(configuration.dtype)
    model = model.to(where)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if configuration.task == "inference" and configuration.dtype == "bfloat16":
        model = model.to(torch.bfloat16)
    model.train(configuration.task == "training")
    outputs = torch.compile(model, mode=mode) if compiled else model
    forward = lambda x: logits(outputs(x))  # noqa: E731
    batch = _batch(configuration, where, channels_last)
    if configuration.task == "training":
        return _training(model, forward, batch, half=configuration.dtype == "bfloat16")
    return _inference(forward, batch)


def _batch(configuration, where, channels_last):
    """Returns a function that puts images and labels on the device, once or at each call."""
    import torch

    x, y = images.batch(configuration, channels_first=True)
    y = y.astype("int64")
    order = torch.channels_last if channels_last else torch.contiguous_format
    half = configuration.task == "inference" and configuration.dtype == "bfloat16"

    def moved():
        pixels = torch.from_numpy(x).to(where, torch.bfloat16 if half else torch.float32)
        return pixels.contiguous(memory_format=order), torch.from_numpy(y).to(where)

    if not configuration.on_device:
        return moved
    stays = moved()
    return lambda: stays


def _inference(forward, batch):
    import torch

    def step():
        with torch.inference_mode():
            return forward(batch()[0]).float().cpu().numpy()

    return step


def _training(model, forward, batch, half):
    import torch

    optimizer = torch.optim.AdamW(model.parameters())

    def step():
        x, y = batch()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            loss = torch.nn.functional.cross_entropy(forward(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step

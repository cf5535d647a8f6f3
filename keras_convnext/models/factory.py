"""What makes a factory of a function that builds models: the first argument is given."""

import inspect

from keras_convnext.checks import keywords
from keras_convnext.models.convnext import refuse_weights_as

EXAMPLE = """

Example:
    from {package} import {name}
    model = {name}(weights=None, classes=5)
"""


def factory_of(build, name, variant, weights, module):
    """Returns `build` of one variant, with these weights by default.

    Args:
        build: a function that builds models: its first argument is the variant. With
            `backbone_weights` among its arguments, the default holds unless they are given.
        name: of the factory.
        variant: key of `VARIANTS`.
        weights: the default of the argument `weights`.
        module: the name of the module that the factory belongs to.

    Returns:
        A function with the arguments of `build` but the first. A string where its first argument is
        True or False raises a ValueError that says how weights are given.
    """
    signature = inspect.signature(build)
    arguments = [
        argument.replace(default=weights) if argument.name == "weights" else argument
        for argument in list(signature.parameters.values())[1:]
    ]
    signature = signature.replace(parameters=arguments)
    first = arguments[0].name

    def factory(*args, **kwargs):
        keywords(name, kwargs, signature.parameters)
        given = signature.bind(*args, **kwargs).arguments
        if first != "weights" and isinstance(given.get(first), str):
            refuse_weights_as(first, given[first], f"{name}(")
        if given.get("backbone_weights") is None:
            given.setdefault("weights", weights)
        return build(variant, **given)

    factory.__name__ = factory.__qualname__ = name
    factory.__module__ = module
    factory.__signature__ = signature
    said = _documentation(build.__name__, variant, weights, signature.parameters)
    factory.__doc__ = said + EXAMPLE.format(name=name, package=_public(module))
    return factory


def _documentation(build, variant, weights, arguments):
    default = "for which no weights were published"
    if weights is not None:
        unless = " unless `backbone_weights` are given" * ("backbone_weights" in arguments)
        default = f"with `weights={weights!r}` by default{unless}"
    return f"`{build}({variant!r}, ...)`, {default}: see `{build}`."


def _public(module):
    """Returns the package that the factories of a module are imported from."""
    return module.rpartition(".")[0].removesuffix(".models")

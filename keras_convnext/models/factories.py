"""One factory per variant: `ConvNeXt` with its first argument given, and published weights."""

import warnings

from keras_convnext.models.convnext import ConvNeXt
from keras_convnext.models.factory import factory_of


def _factory(name, variant):
    """Returns `ConvNeXt` of one variant, with `weights="imagenet"` as in keras.applications."""
    return factory_of(ConvNeXt, name, variant, "imagenet", __name__)


ConvNeXtTiny = _factory("ConvNeXtTiny", "convnext_tiny")
ConvNeXtSmall = _factory("ConvNeXtSmall", "convnext_small")
ConvNeXtBase = _factory("ConvNeXtBase", "convnext_base")
ConvNeXtLarge = _factory("ConvNeXtLarge", "convnext_large")
ConvNeXtXLarge = _factory("ConvNeXtXLarge", "convnext_xlarge")
ConvNeXtZeptoRMS = _factory("ConvNeXtZeptoRMS", "convnext_zepto_rms")
ConvNeXtZeptoRMSOLS = _factory("ConvNeXtZeptoRMSOLS", "convnext_zepto_rms_ols")
ConvNeXtAtto = _factory("ConvNeXtAtto", "convnext_atto")
ConvNeXtAttoOLS = _factory("ConvNeXtAttoOLS", "convnext_atto_ols")
ConvNeXtFemto = _factory("ConvNeXtFemto", "convnext_femto")
ConvNeXtFemtoOLS = _factory("ConvNeXtFemtoOLS", "convnext_femto_ols")
ConvNeXtPico = _factory("ConvNeXtPico", "convnext_pico")
ConvNeXtPicoOLS = _factory("ConvNeXtPicoOLS", "convnext_pico_ols")
ConvNeXtNano = _factory("ConvNeXtNano", "convnext_nano")
ConvNeXtNanoOLS = _factory("ConvNeXtNanoOLS", "convnext_nano_ols")
ConvNeXtTinyHNF = _factory("ConvNeXtTinyHNF", "convnext_tiny_hnf")
ConvNeXtLargeMLP = _factory("ConvNeXtLargeMLP", "convnext_large_mlp")
ConvNeXtXXLarge = _factory("ConvNeXtXXLarge", "convnext_xxlarge")
ConvNeXtIsotropicSmall = _factory("ConvNeXtIsotropicSmall", "convnext_isotropic_small")
ConvNeXtIsotropicBase = _factory("ConvNeXtIsotropicBase", "convnext_isotropic_base")
ConvNeXtIsotropicLarge = _factory("ConvNeXtIsotropicLarge", "convnext_isotropic_large")
ConvNeXtV2Atto = _factory("ConvNeXtV2Atto", "convnextv2_atto")
ConvNeXtV2Femto = _factory("ConvNeXtV2Femto", "convnextv2_femto")
ConvNeXtV2Pico = _factory("ConvNeXtV2Pico", "convnextv2_pico")
ConvNeXtV2Nano = _factory("ConvNeXtV2Nano", "convnextv2_nano")
ConvNeXtV2Tiny = _factory("ConvNeXtV2Tiny", "convnextv2_tiny")
ConvNeXtV2Small = _factory("ConvNeXtV2Small", "convnextv2_small")
ConvNeXtV2Base = _factory("ConvNeXtV2Base", "convnextv2_base")
ConvNeXtV2Large = _factory("ConvNeXtV2Large", "convnextv2_large")
ConvNeXtV2Huge = _factory("ConvNeXtV2Huge", "convnextv2_huge")


# Models for tests, which timm publishes; they are reached by `ConvNeXt("test_convnext")`.
TEST_MODELS = {
    "ConvNeXtTest": "test_convnext",
    "ConvNeXtTest2": "test_convnext2",
    "ConvNeXtTest3": "test_convnext3",
}


def test_model(name, stacklevel=2):
    """Returns the factory of a test model under its old name, with a DeprecationWarning."""
    variant = TEST_MODELS[name]
    warnings.warn(
        f"`{name}` goes with the next release: write `ConvNeXt({variant!r}, weights='imagenet')`.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )
    return _factory(name, variant)


def __getattr__(name):
    if name in TEST_MODELS:
        return test_model(name)
    raise AttributeError(f"module 'keras_convnext.models' has no attribute {name!r}")

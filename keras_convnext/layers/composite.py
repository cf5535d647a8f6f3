"""The base of layers that are made of other layers and keep what was done to these."""

import keras


class Composite(keras.layers.Layer):
    """A layer of layers; what was changed inside it survives saving, loading and cloning.

    Keras builds a layer again from its config. The arguments of a layer of layers say how the inner
    layers were made, but not that one of them was frozen or quantized later, or that it was given
    LoRA, a regularizer, a constraint or a dtype policy. Here the config has these changes as its
    entry `"inner"`; without changes there is no such entry.

    A subclass passes each layer that it makes through `inner_layer`, which applies the changes.

    Args:
        inner: `{name of an inner layer: {key of its config: new value}}`, or `None`.
        **kwargs: the arguments of `keras.layers.Layer`. With `trainable=False` the inner layers
            are frozen too.

    Example:
        import keras
        from keras_convnext.layers import Composite
        class Twice(Composite):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.dense = self.inner_layer(keras.layers.Dense(4, name="dense"))

            def call(self, x):
                return self.dense(self.dense(x))
        layer = Twice()
        layer.dense.trainable = False
        layer.get_config()["inner"]  # {"dense": {"trainable": False}}
    """

    def __init__(self, *, inner=None, **kwargs):
        super().__init__(**kwargs)
        self._beginnings = _Beginnings(inner or {})

    def inner_layer(self, layer):
        """Returns `layer`, or where the config has changes for it, a layer with these changes.

        Args:
            layer: a new layer, not built yet, with a name that no other inner layer has.
        """
        self._beginnings.remember(layer)
        if changes := self._beginnings.changes.get(layer.name):
            config = {**layer.get_config(), "trainable": self.trainable, **changes}
            return type(layer).from_config(config)
        layer.trainable = self.trainable
        return layer

    def get_config(self):
        config, inner = super().get_config(), {}
        for layer in self._flatten_layers(include_self=False, recursive=False):
            beginning = self._beginnings.config_of(layer.name)
            if beginning is not None:
                # setting `trainable` of the whole sets it in each inner layer: that is no change
                beginning = {**beginning, "trainable": self.trainable}
                if changes := _changes(beginning, layer.get_config()):
                    inner[layer.name] = changes
        return {**config, "inner": inner} if inner else config


class _Beginnings:
    """The inner layers as they were made, and the changes that the config has for them.

    This is an object, because Keras and TensorFlow search the dicts of a layer for other layers.
    """

    def __init__(self, changes):
        self.changes, self._layers = changes, {}

    def remember(self, layer):
        """Keeps a new layer as it is now.

        Its config is computed where it is needed: Keras imports TensorFlow, where that is
        installed, to write a config on any backend, and a model that is only built and used would
        wait for it and hold its memory.
        """
        self._layers[layer.name] = _copied(layer)

    def config_of(self, name):
        """Returns the first config of the layer of that name; `None` if there is no such layer."""
        return self._layers[name].get_config() if name in self._layers else None


def _copied(layer):
    """Returns a shallow copy of a layer, of which the inner layers are copies too.

    `copy.copy` does not serve: Keras copies a layer by writing its config.
    """
    copy = object.__new__(type(layer))
    vars(copy).update(vars(layer), _layers=[_copied(inner) for inner in layer._layers])
    return copy


def _changes(before, after):
    return {
        key: value
        for key, value in after.items()
        if key not in before or _without_ids(before[key]) != _without_ids(value)
    }


def _without_ids(config):
    """Returns a config without the numbers by which Keras marks equal objects in one file."""
    if isinstance(config, dict):
        items = config.items()
        return {key: _without_ids(value) for key, value in items if key != "shared_object_id"}
    return config

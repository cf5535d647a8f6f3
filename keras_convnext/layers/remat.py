"""What a `keras.RematScope` does to layers that take `training`."""


class KeepsItsCall:
    """A base of layers and models that a `keras.RematScope` leaves as they are.

    Keras would trace `training` with the inputs, which JAX and TensorFlow refuse. Of a network the
    `ConvNeXtBlock`s are what is worth computing again; a model as a whole is not.
    """

    def rematerialized_call(self, layer_call, *args, **kwargs):
        return layer_call

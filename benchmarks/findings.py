"""The results of a configuration: rates, ratios, memory."""

import numpy as np

from benchmarks.contenders import CONTENDERS, EAGER, PRODUCTS, matrix_product
from benchmarks.medians import ratio, spread
from benchmarks.multiply_adds import multiply_adds

# as many multiply-adds as so many forward passes
PASSES = {"inference": 1, "training": 3, "predict": 1, "fit-head": 1, "fit": 3}


def findings(configuration, turns, failures):
    """Returns all measurements of one configuration: rates per round, and peak memory.

    `turns` has contenders and matrix products, each with as many rounds; `failures` says of each
    of the others why it is not there.
    """
    cost = (
        2
        * PASSES[configuration.task]
        * multiply_adds(configuration.architecture, configuration.size)
    )
    limit = _limit(configuration, turns)
    models = {name: found for name, found in turns.items() if name not in PRODUCTS}
    rates = {name: _rates(found, configuration.images) for name, found in models.items()}
    return {
        "configuration": configuration.described(),
        "operations_per_image": cost,
        "limit": limit and {name: limit[name] for name in ("gigaflops", "products")},
        "contenders": {
            name: {
                "images_per_second": spread(rates[name], 3),
                "rounds": [round(rate, 4) for rate in rates[name]],
                "ratios": {
                    peer: ratio(rates[name], rates[peer], 3) for peer in _peers(name, models)
                },
                "of_limit": _of_limit(name, cost * rates[name], limit),
                "memory": _memory(found, models),
                "beginning": _beginning(found),
            }
            for name, found in models.items()
        },
        "failures": failures,
    }


def _rates(found, work):
    return work / np.array(found.seconds)


def _limit(configuration, turns):
    """Returns the best product of each round, or `None` where there was none."""
    operations = matrix_product.operations(configuration)
    rates = {name: _rates(turns[name], operations) for name in PRODUCTS if name in turns}
    if not rates:
        return None
    best = np.max(list(rates.values()), axis=0)
    return {
        "rounds": best,
        "gigaflops": spread(best / 1e9, 1),
        "products": {name: spread(found / 1e9, 1) for name, found in rates.items()},
    }


def _of_limit(name, operations, limit):
    """Returns the fraction of the limit; `None` without one, or for another architecture, whose
    multiply-adds are not counted."""
    counted = limit and not CONTENDERS[name].peer
    return ratio(operations, limit["rounds"], 3) if counted else None


def _eager(models):
    return next((peer for peer in EAGER if peer in models), None)


def _peers(name, models):
    """Returns the contender's peers: eager PyTorch, and keras.applications on its backend."""
    eager = _eager(models)
    backend = CONTENDERS[name].environment.get("KERAS_BACKEND")
    return [peer for peer in (eager, f"applications-{backend}") if peer in models]


def _memory(found, models):
    """Returns the peak over all rounds; its ratio to eager PyTorch compares whole processes."""
    before = max(beginning["after_imports_bytes"] for beginning in found.beginnings)
    numbers = {
        "peak_bytes": found.peak_bytes,
        "peak_over_imports_bytes": found.peak_bytes - before,
        "device_peak_bytes": found.device_peak_bytes,
        "peak_since": found.peak_since,
    }
    if eager := models.get(_eager(models)):
        peaks = [of.device_peak_bytes or of.peak_bytes for of in (found, eager)]
        numbers["to_eager"] = round(peaks[0] / peaks[1], 3)
    return {name: value for name, value in numbers.items() if value is not None}


def _beginning(found):
    names = ("build_seconds", "first_step_seconds")
    numbers = {name: spread([begun[name] for begun in found.beginnings]) for name in names}
    return {**numbers, "device": found.beginnings[0]["device"]}

"""Keeps the examples with the highest scores of a pass over a set."""

import numpy as np


class Kept:
    """The examples with the highest scores so far; of equal ones the first.

    Args:
        most: how many are kept.
    """

    def __init__(self, most):
        self.most, self.scored = most, []

    def add(self, scores, indices, example):
        """Considers some of a batch.

        Args:
            scores: array (n,) of numbers.
            indices: int array, the places in `scores` of those to consider.
            example: from such a place to what is kept; called for what is kept alone.
        """
        scores = np.asarray(scores)
        if len(self.scored) == self.most:
            least = self.scored[-1][0] if self.scored else np.inf
            indices = indices[scores[indices] > least]
        best = indices[np.argsort(-scores[indices], kind="stable")][: self.most]
        self.scored += [(scores[index], example(index)) for index in best]
        self.scored.sort(key=lambda pair: -pair[0])
        del self.scored[self.most :]

    def examples(self):
        """Returns what is kept, a tuple, the highest score first."""
        return tuple(example for _, example in self.scored)

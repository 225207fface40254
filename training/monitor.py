"""What a training prints of itself when it goes wrong without an error."""

import numpy as np
from paddle import Tensor, nn

from semindex import runtime


def check_samples(rows: np.ndarray) -> None:
    """Warn where all samples are the same texts. rows: int64 [samples, columns], which text stands where."""
    if len(rows) > 1 and bool((rows == rows[0]).all()):
        runtime.warn(f"all {len(rows)} training samples are the same: there is nothing to tell apart; check the "
                     "training file")


class Monitor:
    """Looks for the ways in which contrastive training fails without an error."""

    def __init__(self, head: nn.Layer, samples: int) -> None:
        self.head, self.samples = head, samples
        self.losses: list[float] = []
        self.recent: list[float] = []
        self.warned = False

    def see(self, loss: float) -> None:
        """Take note of a step's loss."""
        self.losses.append(loss)

    def report(self, step: int, vectors: Tensor, columns: int) -> float:
        """Return the mean loss since the last report; warn, once, of a loss that is stuck or 0, or collapsed vectors.

        columns: of the batches at this step.
        """
        mean = sum(self.losses) / len(self.losses)
        self.losses = []
        self.recent = [*self.recent[-9:], mean]
        if self.warned or len(self.recent) < 10:
            return mean
        if max(self.recent) < 1e-8:
            runtime.warn(f"step {step}: the loss has been 0 in ten reports, so nothing is learned any more; check "
                         "that the samples of the training file differ, or stop here")
            self.warned = True
            return mean
        stuck = self.head.stuck(self.samples, columns) if hasattr(self.head, "stuck") else None
        total = vectors.detach().sum(axis=0)
        count = len(vectors)
        cosine = (float((total * total).sum()) - count) / (count * (count - 1)) if count > 1 else 0.0
        if cosine > 0.98:
            runtime.warn(f"step {step}: the vectors collapse (mean cosine between different texts {cosine:.3f}); "
                         "lower --learning_rate, raise --scale, or check that the texts differ")
            self.warned = True
        elif stuck and all(abs(value / stuck - 1) < 0.01 for value in self.recent):
            runtime.warn(f"step {step}: the loss sits at {mean:.3f}, what vectors that are all alike give "
                         f"({stuck:.3f}); raise or lower --learning_rate, and check the training file")
            self.warned = True
        return mean

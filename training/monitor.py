"""What a training prints of itself when it goes wrong without an error."""

from paddle import Tensor, nn

from semindex import runtime


class Monitor:
    """Looks for the two ways in which contrastive training fails without an error."""

    def __init__(self, head: nn.Layer, samples: int) -> None:
        self.head, self.samples = head, samples
        self.losses: list[float] = []
        self.recent: list[float] = []
        self.warned = False

    def see(self, loss: float) -> None:
        """Take note of a step's loss."""
        self.losses.append(loss)

    def report(self, step: int, vectors: Tensor, columns: int) -> float:
        """Return the mean loss since the last report; warn, once, of a stuck loss or collapsed vectors.

        columns: of the batches at this step.
        """
        mean = sum(self.losses) / len(self.losses)
        self.losses = []
        self.recent = [*self.recent[-9:], mean]
        if self.warned or len(self.recent) < 10:
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

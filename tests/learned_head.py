"""A head with parameters of its own, of each kind there is, that reads labels: for the tests of what a head may be."""

import paddle
import paddle.nn.functional as F
from paddle import nn

from models.heads.head import Head
from models.heads.similarity import softmax_over_batch


class LearnedHead(Head):
    """In-batch softmax of a learned temperature behind a linear layer, and the squared error of the pairs' cosines."""

    name, uses_labels = "learned", True

    def __init__(self, width, rate=0.0):
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width, width)
        self.temperature = self.create_parameter([], default_initializer=nn.initializer.Constant(2.0))
        self.dropout = nn.Dropout(rate)

    def forward(self, vectors, mask=None, labels=None):
        assert labels.dtype == paddle.float32 and list(labels.shape) == [len(vectors[0])]
        query, *texts = [F.normalize(self.linear(self.dropout(column)), axis=1) for column in vectors]
        error = ((query * texts[0]).sum(1) - labels) ** 2
        return softmax_over_batch([query, *texts], 0.0, self.temperature.exp(), mask) + error.mean()

    def settings(self):
        return {"width": self.width}

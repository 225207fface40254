"""Make distill.json: losses by sentence-transformers, against which test_distill.py holds ours.

    pip install torch sentence-transformers
    python tests/reference/make_distill.py

Ran with sentence-transformers 6.2.0 and torch 2.13.0 (CPU). Vectors are those of `vectors` here, drawn by numpy.
"""

import json
from pathlib import Path

import numpy as np

SAMPLES, WIDTH, TEMPERATURE = 5, 12, 0.1


def vectors(columns, seed):
    """Return unit vectors, float64 [columns, samples, width]."""
    drawn = np.random.default_rng(seed).standard_normal([columns, SAMPLES, WIDTH])
    return drawn / np.linalg.norm(drawn, axis=2, keepdims=True)


def main():
    """Compute and write."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss, MSELoss

    model, found = SentenceTransformer(modules=[torch.nn.Identity()]), {}

    def add(name, loss, columns, embeddings, labels):
        student = torch.tensor(vectors(columns, 1), requires_grad=True)
        value = loss(embeddings(student), labels(torch.tensor(vectors(columns, 2))))
        value.backward()
        found[name] = {"loss": value.item(), "gradient": student.grad.numpy().round(9).tolist()}

    def candidates(columns):
        """Every positive and negative of the batch as a column of candidates."""
        query, rest = columns[0], columns[1:].reshape(-1, WIDTH)
        return [query, *(row.expand(SAMPLES, WIDTH) for row in rest)]

    def scores(columns):
        return columns[0] @ columns[1:].reshape(-1, WIDTH).T

    def margins(columns):
        query, positive = columns[:2]
        return torch.stack([(query * positive).sum(1) - (query * negative).sum(1) for negative in columns[2:]], 1)

    mse = MSELoss(model).compute_loss_from_embeddings
    add("mse", mse, 1, list, lambda columns: columns)
    add("kl", DistillKLDivLoss(model, temperature=TEMPERATURE).compute_loss_from_embeddings, 3, candidates, scores)
    add("margin_mse", MarginMSELoss(model).compute_loss_from_embeddings, 4, list, margins)
    Path(__file__).with_name("distill.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()

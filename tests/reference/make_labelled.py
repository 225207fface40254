"""Make labelled.json: losses, gradients and thresholds by sentence-transformers, for tests/test_labelled_heads.py.

    pip install torch sentence-transformers
    python tests/reference/make_labelled.py

Ran with sentence-transformers 6.2.0, torch 2.13.0 (CPU) and scikit-learn 1.9.1.
"""

import json
from pathlib import Path

import numpy as np
import torch
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
from sklearn.metrics import average_precision_score

BINARY = {"mixed": [1, 0, 0, 1, 1, 0, 1, 0, 0, 1], "no positives": [0, 0, 0, 0], "no negatives": [1, 1, 1, 1],
          "one of each": [1, 0], "one positive": [1, 0, 0, 0, 0], "one negative": [0, 1, 1, 1, 1]}
GRADED = {"graded": [0.1, 0.9, 0.5, 0.5, 1.0, 0.0, 0.3], "two": [0.2, 0.8], "equal": [0.5, 0.5, 0.5]}


class Cosine(torch.nn.Module):
    """The part of a SentenceTransformer that the losses ask for."""

    similarity_fn_name = "cosine"


def unit(rows, width, rng):
    found = rng.standard_normal([rows, width])
    return np.round(found / np.linalg.norm(found, axis=1, keepdims=True), 6)


def pairs(labels, rng):
    """Two columns of vectors whose cosines go from far to near."""
    first = unit(len(labels), 8, rng)
    share = rng.uniform(0.0, 1.5, [len(labels), 1])
    second = first * share + unit(len(labels), 8, rng)
    return [first, np.round(second / np.linalg.norm(second, axis=1, keepdims=True), 6)]


def cases():
    model = Cosine()
    kinds = {"contrastive": (losses.ContrastiveLoss(model), BINARY), "online_contrastive": (losses.OnlineContrastiveLoss(model), BINARY),
             "cosine": (losses.CosineSimilarityLoss(model), BINARY | GRADED), "cosent": (losses.CoSENTLoss(model), BINARY | GRADED),
             "multiple_negatives": (losses.MultipleNegativesRankingLoss(model), {"all match": [1] * 6, "two": [1, 1]})}
    for name, (loss, labels) in kinds.items():
        for case, values in labels.items():
            columns = pairs(values, np.random.default_rng(len(case)))
            tensors = [torch.tensor(column, dtype=torch.float32, requires_grad=True) for column in columns]
            value = loss.compute_loss_from_embeddings(tensors, torch.tensor(values, dtype=torch.float32))
            value.backward()
            gradients = [[] if tensor.grad is None else np.round(tensor.grad.numpy().astype(float), 8).tolist() for tensor in tensors]
            yield {"loss": name, "case": case, "labels": values, "vectors": [column.tolist() for column in columns],
                   "value": float(value), "gradients": gradients}


def thresholds():
    rng = np.random.default_rng(5)
    for case, digits, share in (("apart", 6, 0.4), ("ties", 1, 0.4), ("few positives", 2, 0.05), ("mostly positives", 2, 0.9)):
        labels = (rng.random(200) < share).astype(int)
        scores = np.round(np.clip(rng.normal(0.3 * labels + 0.4, 0.25), -1, 1), digits)
        evaluator = BinaryClassificationEvaluator
        accuracy, at = evaluator.find_best_acc_and_threshold(scores, labels, True)
        f1, precision, recall, f1_at = evaluator.find_best_f1_and_threshold(scores, labels, True)
        yield {"case": case, "labels": labels.tolist(), "scores": scores.tolist(), "accuracy": float(accuracy),
               "accuracy_threshold": float(at), "f1": float(f1), "precision": float(precision), "recall": float(recall),
               "f1_threshold": float(f1_at), "average_precision": float(average_precision_score(labels, scores))}


def main():
    """Write the file."""
    found = {"losses": list(cases()), "thresholds": list(thresholds())}
    Path(__file__).with_name("labelled.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

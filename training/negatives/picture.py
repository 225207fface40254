"""What plot_negatives.py puts together: searches for some queries, t-SNE, pictures."""

import argparse
import os

import numpy as np

from models import loading
from models.encoders import fast_encoder
from semindex import pictures, runtime
from semindex.collection import store
from semindex.collection.ranking import make_ranker
from semindex.errors import UserError
from semindex.search.index import IndexSettings
from training.negatives.miner import Miner, bm25_search
from training.negatives.mining import MiningRules, Search, mine


def choose(collection: store.Collection, args: argparse.Namespace) -> np.ndarray:
    """Return the queries to draw: those named, or some at random."""
    asked = np.unique(collection.pairs[:, 0])
    if not args.query:
        return np.sort(np.random.default_rng(args.seed).permutation(asked)[: args.queries])
    texts = dict(zip(collection.texts.some(collection.about.documents + asked), asked.tolist()))
    lacking = [text for text in args.query if text not in texts]
    if lacking:
        raise UserError(f"--query {lacking[0]}: no training query of {args.data_dir} with a positive")
    return np.array(sorted({texts[text] for text in args.query}))


def run(args: argparse.Namespace) -> None:
    """Draw as the flags say."""
    from sklearn.manifold import TSNE

    collection = store.load(args.data_dir)
    model, tokenizer = loading.load(args.params_path, vars(args))
    collection.check_tokenizer(tokenizer, model.settings.prompts, args.params_path)
    runtime.say(f"Loaded parameters from {args.params_path}")
    encoder, _ = fast_encoder(model, tokenizer, args.engine, collection.about.passages, args.batch_size)
    queries = choose(collection, args)
    ranker = make_ranker(collection, encoder, queries, IndexSettings())
    rules = MiningRules(args.negatives, rank_max=args.topk_training, seed=args.seed)
    known = Miner(collection, rules).known()
    pairs = collection.pairs
    asked, first = np.unique(pairs[:, 0], return_index=True)
    one = pairs[first[np.searchsorted(asked, queries)]]  # a pair of each query

    def nothing(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full([len(block), 1], -1), np.zeros([len(block), 1], np.float32)

    searches: dict[str, Search] = {"ANCE negative": lambda some: ranker.search(some, rules.rank_max),
                                   "BM25 negative": bm25_search(collection, rules.rank_max)[0], "random": nothing}
    found = {kind: mine(one, search, known, rules, fill=True).documents for kind, search in searches.items()}
    drawings = []
    for row, query in enumerate(queries):
        documents = {"positive": pairs[pairs[:, 0] == query, 1]} | {kind: np.unique(all_[row])
                                                                     for kind, all_ in found.items()}
        kinds = ["query", *(kind for kind, some in documents.items() for _ in some)]
        numbers = np.concatenate([[0], *documents.values()]).astype(np.int64)
        rows = collection.first_passage[numbers[1:]]
        vectors = np.concatenate([ranker.vectors[row : row + 1], ranker.passages.vectors[rows]])
        scores = vectors @ vectors[0]
        places = TSNE(metric="cosine", init="pca", perplexity=min(30.0, (len(vectors) - 1) / 3),
                      random_state=args.seed).fit_transform(vectors)
        texts = [collection.texts[collection.about.documents + int(query)], *collection.texts.some(numbers[1:])]
        points = [pictures.Point(float(x), float(y), kind, text, float(score))
                  for (x, y), kind, text, score in zip(places, kinds, texts, scores)]
        name = collection.query_ids[int(query)]
        path = os.path.join(args.output_dir, f"query_{name.replace('/', '_')}.png")
        pictures.plane(points, f"query {name}", path)
        runtime.say(path)
        drawings.append(points)
    path = os.path.join(args.output_dir, "negatives.html")
    pictures.page(drawings, path)
    runtime.say(path)

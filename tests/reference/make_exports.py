"""Checkpoints of every kind that export_model.py --format sentence-transformers writes, and their exports.

    python tests/reference/make_exports.py DIR              in the project's environment; test_sentence_directory.py too
    python tests/reference/check_sentence_transformers.py DIR         in one with torch and sentence-transformers
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import paddle  # noqa: E402
import tiny  # noqa: E402

from models.loading import create, save  # noqa: E402
from models.sentence_directory import export_sentence_transformers  # noqa: E402

# One checkpoint each. of: a variant of tiny.py; plain: whether its modules and tokenizer.json are left away, so that the
# tokenizer is paddlenlp's WordPiece and the flags shape what stands behind the encoder.
EXPORTS = {
    "ernie": {"of": "ernie-plain", "plain": True, "flags": {"pooling": "mean", "output_emb_size": 16, "max_seq_length": 24}},
    "bert-pooler": {"of": "bert", "plain": True, "flags": {
        "pooling": "pooler", "output_emb_size": 12, "max_seq_length": 20, "query_prompt": "问：", "passage_prompt": "card "}},
    "bert-pooler-alone": {"of": "bert", "plain": True, "flags": {
        "pooling": "pooler", "output_emb_size": 0, "max_seq_length": 32, "truncate_dim": 20}},
    "ernie-task": {"of": "ernie", "flags": {"query_prompt": "query: ", "query_prompt_on_both": True}},
    "roberta-cut": {"of": "roberta", "flags": {"truncate_dim": 8}},
    "xlm-roberta-cut": {"of": "xlm-roberta", "flags": {"truncate_dim": 20}},
    "bert-e5": {"of": "bert-e5", "flags": {"pooling": "max", "output_emb_size": 24}},
}


def make_plain(directory, kind):
    """Turn a directory of tiny.py into an encoder with a vocab.txt alone."""
    ids = tiny.wordpiece()[0].get_vocab()
    (directory / "vocab.txt").write_text("\n".join(sorted(ids, key=ids.get)) + "\n", encoding="utf-8")
    tiny.dump(directory / "tokenizer_config.json", {"tokenizer_class": f"{kind.capitalize()}Tokenizer"})
    (directory / "modules.json").unlink()
    (directory / "tokenizer.json").unlink()


def checkpoint(name, directory):
    """Write the checkpoint of one of EXPORTS into a directory; return (model, tokenizer)."""
    about = EXPORTS[name]
    variant = tiny.VARIANTS[about["of"]]
    source = directory / "source"
    tiny.write(source, variant)
    if about.get("plain"):
        make_plain(source, variant["kind"])
    model, tokenizer = create(str(source), about["flags"])
    if model.emb_reduce_linear is not None and (about.get("plain") or "dense" not in variant):  # made at random
        for part, value in model.emb_reduce_linear.named_parameters():
            value.set_value(paddle.to_tensor(tiny.array(f"linear.{part}", *value.shape)))
    model.eval()
    model.settings.encoder = about["of"]
    (directory / "checkpoint").mkdir()
    save(model, tokenizer, str(directory / "checkpoint"))
    return model, tokenizer


def main():
    """Write an export of each into a directory."""
    for name in EXPORTS:
        place = Path(sys.argv[1]) / name
        place.mkdir(parents=True)
        model, tokenizer = checkpoint(name, place)
        print(name, export_sentence_transformers(model, tokenizer, str(place / "export"), str(place / "checkpoint")))


if __name__ == "__main__":
    main()

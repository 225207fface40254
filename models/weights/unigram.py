"""Unigram tokenizers (Kudo 2018, arXiv 1804.10959) as a tokenizer.json: made from pieces, and cut to what is used."""

import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from semindex.directories import temporary_directory
from semindex.errors import UserError

META = "\u2581"  # what stands for a space
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
# Pieces that are kept whatever the texts: of Han characters and their punctuation, and short ones of ASCII.
ALWAYS = re.compile(f"{META}?([{HAN}]+|[\u3000-\u303f\uff01-\uff65]+|[!-~]{{1,3}})")


def _charsmap(rules: Mapping[int, Sequence[int]]) -> bytes:
    """Return rules, code point to code points, in sentencepiece's compiled form; it is made by that library."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    with temporary_directory() as directory:
        path = os.path.join(directory, "rules.tsv")
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"{code:X}\t{' '.join(f'{each:X}' for each in into)}\n" for code, into in rules.items())
        out = io.BytesIO()
        # The model that it trains is thrown away.
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c d", "b c d e f g"]), model_writer=out, vocab_size=12,
            normalization_rule_tsv=path, minloglevel=2, hard_vocab_limit=False)
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    model.ParseFromString(out.getvalue())
    return model.normalizer_spec.precompiled_charsmap


def unigram_tokenizer(pieces: Sequence[str], scores: np.ndarray, rules: Mapping[int, Sequence[int]],
                      special: Mapping[str, int]) -> dict[str, Any]:
    """Return the content of a tokenizer.json with XLM-RoBERTa's steps: rules, spaces, pieces, <s> text </s>.

    rules: code point to replacement. special: the ids of <s>, </s>, <pad>, <unk>.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist())), unk_id=special["<unk>"],
                                         byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(_charsmap(rules)),
                                                 normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=META, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, special[token]) for token in ("<s>", "</s>")])
    tokenizer.add_special_tokens([token for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>") if token in pieces])
    return json.loads(tokenizer.to_str())


def kept_pieces(content: Mapping[str, Any], used: Iterable[int]) -> np.ndarray:
    """Return the ids of a Unigram tokenizer.json's pieces to keep, ascending.

    used: ids that texts were cut into. Beside them stay the special tokens, the pieces of ALWAYS, and the piece of the
    lowest score: what an unknown character costs is counted from it. So what is cut into kept pieces alone is cut as
    before: the best of all ways is still there, at the same price. Raises UserError for another kind of tokenizer.
    """
    if content["model"].get("type") != "Unigram":
        raise UserError(f"--vocabulary_texts: only Unigram tokenizers can be cut, this one is "
                        f"{content['model'].get('type')}")
    vocabulary = content["model"]["vocab"]
    kept = set(used) | {token["id"] for token in content["added_tokens"]} | {content["model"]["unk_id"]}
    kept.update(number for number, (piece, _) in enumerate(vocabulary) if ALWAYS.fullmatch(piece))
    kept.add(min(range(len(vocabulary)), key=lambda number: vocabulary[number][1]))
    return np.array(sorted(kept), np.int64)


def cut_pieces(content: Mapping[str, Any], kept: np.ndarray) -> dict[str, Any]:
    """Return the tokenizer.json with some pieces alone; an id becomes its place in `kept`."""
    new = {int(old): place for place, old in enumerate(kept)}
    cut = json.loads(json.dumps(content))
    cut["model"]["vocab"] = [content["model"]["vocab"][old] for old in kept]
    cut["model"]["unk_id"] = new[content["model"]["unk_id"]]
    for token in cut["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in ((cut.get("post_processor") or {}).get("special_tokens") or {}).values():
        token["ids"] = [new[old] for old in token["ids"]]
    return cut

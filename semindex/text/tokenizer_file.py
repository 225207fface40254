"""tokenizer.json, the form of the Rust tokenizers library: its own normaliser, splitting, model and special tokens."""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from semindex.errors import UserError
from semindex.fields import read_json
from semindex.text.tokenizer import TextTokenizer

FILE, CONFIG, SPECIAL_FILE = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
LONGEST = 8192
SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def rust_tokenizer(content: str, where: str) -> Any:
    """Return the library's tokenizer of a tokenizer.json; UserError where it is damaged. where: for the message."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's own errors, and its panics, which are no Exception
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{where}: cannot be read as a tokenizer ({reason:.200})") from None


class FileTokenizer(TextTokenizer):
    """Gives the ids of a tokenizer.json, by the library that the file is made for.

    content: of the file; what it says of truncation and padding is left out. special: the special tokens by their
    names in tokenizer_config.json. Raises UserError for a damaged file, and where max_seq_length leaves no room.
    """

    def __init__(self, content: str, max_seq_length: int, pad_id: int, special: dict[str, str] | None = None,
                 where: str = FILE) -> None:
        super().__init__(max_seq_length, pad_id)
        self.content, self.special, self.where = content, special or {}, where
        self.rust = rust_tokenizer(content, where)
        self.padding = self.rust.padding  # what the file says of it
        self.rust.no_padding()
        added = self.rust.num_special_tokens_to_add(False)
        if max_seq_length <= added:
            raise UserError(f"--max_seq_length {max_seq_length}: {where} adds {added} special tokens to a text")
        self.rust.enable_truncation(max_seq_length)
        ends = self.rust.encode("").ids
        self.separator = (self.special.get("sep_token") or self.special.get("eos_token")
                          or (self.rust.id_to_token(ends[-1]) if ends else " "))

    def with_length(self, max_seq_length: int) -> "FileTokenizer":
        """See TextTokenizer."""
        return FileTokenizer(self.content, max_seq_length, self.pad_id, self.special, self.where)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """See TextTokenizer."""
        return [encoding.ids for encoding in self.rust.encode_batch_fast(texts)]

    def identity(self) -> list[Any]:
        """See TextTokenizer: a digest, since the file may have megabytes."""
        return [self._digest]

    @functools.cached_property
    def _digest(self) -> str:
        parts = {key: value for key, value in json.loads(self.content).items() if key not in ("truncation", "padding")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def save(self, directory: str) -> None:
        """Write tokenizer.json, and tokenizer_config.json with the special tokens, as transformers reads them."""
        with open(os.path.join(directory, FILE), "w", encoding="utf-8") as file:
            file.write(self.content)
        pad = self.rust.id_to_token(self.pad_id)
        about = self.special | {"pad_token": pad, "tokenizer_class": "PreTrainedTokenizerFast",
                                "model_max_length": self.max_seq_length}
        with open(os.path.join(directory, CONFIG), "w", encoding="utf-8") as file:
            json.dump(about, file, ensure_ascii=False, indent=2)

    def as_file(self) -> "FileTokenizer":
        """Return itself without the file's own truncation and padding, with its special tokens named."""
        content = json.loads(self.content) | {"truncation": None, "padding": None}
        return FileTokenizer(json.dumps(content, ensure_ascii=False), self.max_seq_length, self.pad_id,
                             {"pad_token": self.rust.id_to_token(self.pad_id)} | self.special, self.where)

    def export(self, directory: str) -> dict[str, Any]:
        """See TextTokenizer."""
        self.save(directory)
        return {"kind": "tokenizer.json", "file": FILE, "pad_id": self.pad_id}


def read_tokenizer(directory: str, max_seq_length: int) -> FileTokenizer | None:
    """Return the tokenizer of a directory that holds a tokenizer.json, else None.

    The padding's id is what the files say, in this order: the padding token of tokenizer_config.json or of
    special_tokens_map.json, tokenizer.json's padding, pad_token_id of config.json. Raises UserError where none does.
    """
    path = os.path.join(directory, FILE)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            content = file.read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read as a tokenizer (byte {error.start + 1} is no UTF-8)") from None
    special = _special_tokens(directory)
    tokenizer = FileTokenizer(content, max_seq_length, 0, special, path)
    pad_id = tokenizer.rust.token_to_id(special["pad_token"]) if "pad_token" in special else None
    if pad_id is None and tokenizer.padding:
        pad_id = tokenizer.padding["pad_id"]
    config = os.path.join(directory, "config.json")
    if pad_id is None and os.path.isfile(config):
        found = read_json(config)
        pad_id = found.get("pad_token_id") if isinstance(found, dict) else None
    if not isinstance(pad_id, int) or tokenizer.rust.id_to_token(pad_id) is None:
        raise UserError(f"{path}: no padding token is known; name it in {CONFIG}, as \"pad_token\": \"<pad>\"")
    tokenizer.pad_id = pad_id
    return tokenizer


def written_length(directory: str) -> int:
    """Return how many tokens a text has at most by tokenizer_config.json, 8192 where it does not say."""
    path = os.path.join(directory, CONFIG)
    content = read_json(path) if os.path.isfile(path) else {}
    length = content.get("model_max_length") if isinstance(content, dict) else None
    return length if type(length) is int and 3 <= length <= LONGEST else LONGEST  # 10**30 is transformers' "any"


def _special_tokens(directory: str) -> dict[str, str]:
    """Return the special tokens that tokenizer_config.json and special_tokens_map.json name."""
    found: dict[str, str] = {}
    for name in (SPECIAL_FILE, CONFIG):
        path = os.path.join(directory, name)
        content = read_json(path) if os.path.isfile(path) else {}
        for key in SPECIAL:
            value = content.get(key) if isinstance(content, dict) else None
            value = value.get("content") if isinstance(value, dict) else value
            if isinstance(value, str):
                found[key] = value
    return found

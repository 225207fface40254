"""Tiny encoders as sentence-transformers directories, the same in every environment: numpy, safetensors, tokenizers.

The scripts here make them where torch is, the tests where paddle is; weights and vocabularies follow from names alone.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 48, 40
TEXTS = ["银行卡丢了怎么办？", "How do I reset my password?", "退款到账要多久, please", "卡", "", "  Café  spaces 100%  ",
         "花呗分期还款日可以改吗，改了以后这个月的账单怎么算" * 3, "reset the password of my card " * 20]
WORDS = ["how", "do", "my", "card", "pass", "##word", "reset", "the", "of", "please", "##s", "space", "cafe", "100"]
HAN = sorted(set("".join(TEXTS)) & {chr(code) for code in range(0x4E00, 0x9FFF)})
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
MARKS = [*"?,%0123456789", "？", "，"]
MERGES = ["h o", "ho w", "m y", "Ġ m", "Ġm y", "p a", "s s", "pa ss", "w o", "wo r", "wor d", "Ġ pass", "Ġ r", "e s",
          "es e", "ese t", "Ġr eset", "Ġ c", "a r", "Ġc ar", "Ġcar d", "å į", "Ġ t", "h e", "Ġt he"]

# One directory each. dense: (width, activation, bias); shards: files of weights; more: beside what `config` says.
VARIANTS = {
    "bert": {"kind": "bert", "prefix": "bert.", "pooler": True, "pooling": "mean", "length": 24,
             "more": {"architectures": ["BertForMaskedLM"], "layer_norm_eps": 1e-12}},
    "bert-e5": {"kind": "bert", "tokenizer": "unigram", "pooling": "mean", "normalize": True, "length": 32,
                "prompts": {"query": "query: ", "passage": "passage: "}, "more": {"pad_token_id": 0}},
    "bert-newer": {"kind": "bert", "pooling": "cls", "newer": True, "truncate": 12, "dense": (20, "GELU", True),
                   "more": {"layer_norm_eps": 1e-3}},
    "ernie": {"kind": "ernie", "shards": 3, "pooling": "cls", "dense": (24, "Tanh", True), "length": 32,
              "more": {"layer_norm_eps": 1e-5, "use_task_id": True, "task_type_vocab_size": 3}},
    "ernie-plain": {"kind": "ernie", "prefix": "ernie.", "pooler": True, "pooling": "max", "normalize": True, "length": 16,
                    "more": {"layer_norm_eps": 1e-4}},
    "roberta": {"kind": "roberta", "prefix": "roberta.", "pooling": "max", "dense": (16, "Identity", False),
                "normalize": True, "more": {"architectures": ["RobertaForMaskedLM"]}},
    "xlm-roberta": {"kind": "xlm-roberta", "shards": 2, "pooler": True, "pooling": "mean", "length": 30,
                    "prompts": {"query": "问：", "document": "文: "}, "normalize": True, "more": {}},
}
CLASSES = {"bert": "BertModel", "ernie": "ErnieModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}


def wordpiece():
    """BERT's: lower case, [CLS] text [SEP]."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *MARKS, *HAN, *LETTERS,
              *(f"##{letter}" for letter in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(dict.fromkeys(tokens))}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer, ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")


def byte_pairs():
    """RoBERTa's: bytes and some merges, <s> text </s>."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet())]
    pieces += [merge.replace(" ", "") for merge in MERGES]
    pieces.append("<mask>")
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(dict.fromkeys(pieces))},
                                     [tuple(merge.split(" ")) for merge in MERGES], unk_token="<unk>"))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer, ("<s>", "</s>", "<pad>", "<unk>", "<mask>")


def unigram():
    """XLM-RoBERTa's: pieces with scores, <s> text </s>."""
    pieces = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    whole = ["▁how", "▁do", "▁my", "▁card", "▁pass", "word", "▁reset", "▁the", "▁of", "▁please", "怎么", "银行", "退款", "query",
             "passage", "▁"]
    pieces += [(piece, -2.0 - i / 16) for i, piece in enumerate(whole)]
    pieces += [(piece, -8.0 - i / 64) for i, piece in enumerate([*HAN, *LETTERS, *map(str.upper, LETTERS), *MARKS, ":", "é", "问", "文"])
               if piece not in whole]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer, ("<s>", "</s>", "<pad>", "<unk>", "<mask>")


TOKENIZERS = {"bert": wordpiece, "ernie": wordpiece, "roberta": byte_pairs, "xlm-roberta": unigram, "unigram": unigram}


def finished(make):
    """Return (tokenizer with its post-processor and special tokens, their names in tokenizer_config.json)."""
    tokenizer, (start, end, pad, unknown, mask) = make()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} $B:1 {end}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (start, pad, end, unknown, mask)])
    return tokenizer, {"cls_token": start, "sep_token": end, "pad_token": pad, "unk_token": unknown, "mask_token": mask}


def array(name, *shape, scale=0.2, mean=0.0):
    """Return the numbers of a parameter, which its name decides."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    return (mean + scale * state.standard_normal(shape)).astype(np.float32)


def encoder_weights(config, pooler):
    """Return an encoder's parameters by Hugging Face's names. Small embeddings: layer_norm_eps shows in the vectors."""
    tables = {"word": config["vocab_size"], "position": config["max_position_embeddings"], "token_type": config["type_vocab_size"]}
    if config.get("use_task_id"):
        tables["task_type"] = config["task_type_vocab_size"]
    state = {name: array(name, size, WIDTH, scale=0.03) for name, size in
             ((f"embeddings.{table}_embeddings.weight", size) for table, size in tables.items())}
    layers = [f"encoder.layer.{i}." for i in range(LAYERS)]
    linear = {f"{layer}{part}": (WIDTH, WIDTH) for layer in layers
              for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")}
    linear |= {f"{layer}intermediate.dense": (INNER, WIDTH) for layer in layers}
    linear |= {f"{layer}output.dense": (WIDTH, INNER) for layer in layers}
    linear |= {"pooler.dense": (WIDTH, WIDTH)} if pooler else {}
    for name, shape in linear.items():
        state |= {f"{name}.weight": array(f"{name}.weight", *shape), f"{name}.bias": array(f"{name}.bias", shape[0])}
    for name in ("embeddings.LayerNorm", *(f"{layer}{part}.LayerNorm" for layer in layers for part in ("attention.output", "output"))):
        state |= {f"{name}.weight": array(f"{name}.weight", WIDTH, mean=1.0), f"{name}.bias": array(f"{name}.bias", WIDTH)}
    return state


def dump(path, content):
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def write_weights(directory, state, shards):
    """Write model.safetensors, or several files with an index; parameters go round the files in turn."""
    if shards == 1:
        save_file(state, str(directory / "model.safetensors"), {"format": "pt"})
        return
    names = {name: f"model-{1 + i % shards:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(sorted(state))}
    for file in set(names.values()):
        save_file({name: value for name, value in state.items() if names[name] == file}, str(directory / file), {"format": "pt"})
    dump(directory / "model.safetensors.index.json", {
        "metadata": {"total_size": sum(value.nbytes for value in state.values())}, "weight_map": names})


def config_of(variant, vocabulary):
    """Return config.json."""
    kind = variant["kind"]
    roberta = "roberta" in kind
    return {"model_type": kind, "architectures": [CLASSES[kind]], "vocab_size": vocabulary, "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER, "hidden_act": "gelu",
            "max_position_embeddings": POSITIONS + 2 * roberta, "type_vocab_size": 1 if roberta else 2,
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-5 if roberta else 1e-12,
            "pad_token_id": 1 if roberta else 0, "torch_dtype": "float32"} | variant["more"]


def write(directory, variant):
    """Write the directory of a variant, one of VARIANTS' values."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer, special = finished(TOKENIZERS[variant.get("tokenizer", variant["kind"])])
    tokenizer.save(str(directory / "tokenizer.json"))
    dump(directory / "tokenizer_config.json", special | {"tokenizer_class": "PreTrainedTokenizerFast",
                                                         "model_max_length": variant.get("length", POSITIONS)})
    config = config_of(variant, tokenizer.get_vocab_size())
    dump(directory / "config.json", config)
    state = {variant.get("prefix", "") + name: value for name, value in
             encoder_weights(config, variant.get("pooler", False)).items()}
    if "prefix" in variant:
        state["cls.predictions.bias"] = np.zeros(config["vocab_size"], np.float32)  # of the head over the encoder
    write_weights(directory, state, variant.get("shards", 1))
    write_modules(directory, variant)


def write_modules(directory, variant):
    """Write what sentence-transformers has beside the encoder; in the form of release 6 where the variant is newer."""
    places = {"Transformer": "", "Pooling": "1_Pooling"}
    pooling = variant["pooling"]
    if variant.get("newer"):
        dump(directory / "1_Pooling" / "config.json", {"embedding_dimension": WIDTH, "pooling_mode": pooling, "include_prompt": True})
    else:
        dump(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH} | {
            f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("cls_token", "mean_tokens", "max_tokens")})
    if "dense" in variant:
        places["Dense"] = "2_Dense"
        width, activation, bias = variant["dense"]
        module = "linear" if activation == "Identity" else "activation"
        dump(directory / "2_Dense" / "config.json", {"in_features": WIDTH, "out_features": width, "bias": bias,
                                                     "activation_function": f"torch.nn.modules.{module}.{activation}"})
        state = {"linear.weight": array("dense", width, WIDTH)} | ({"linear.bias": array("dense.bias", width)} if bias else {})
        save_file(state, str(directory / "2_Dense" / "model.safetensors"), {"format": "pt"})
    if variant.get("normalize"):
        places["Normalize"] = f"{len(places)}_Normalize"
        (directory / places["Normalize"]).mkdir(exist_ok=True)
    dump(directory / "modules.json", [{"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
                                      for i, (kind, place) in enumerate(places.items())])
    dump(directory / "sentence_bert_config.json", {"do_lower_case": False} | (
        {"max_seq_length": variant["length"]} if "length" in variant else {}))
    dump(directory / "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "5.1.2"}, "prompts": variant.get("prompts", {}), "default_prompt_name": None,
        "similarity_fn_name": "cosine"} | ({"truncate_dim": variant["truncate"]} if "truncate" in variant else {}))


def digests(directory):
    """Return {file: checksum} of an exported directory: of tensors and of what JSON says, not of how it is written."""
    found = {}
    for path in sorted(Path(directory).rglob("*")):
        name = str(path.relative_to(directory))
        if path.suffix == ".safetensors":
            parts = [f"{key} {value.shape} {value.dtype} {zlib.crc32(value.tobytes())}" for key, value in sorted(load_file(str(path)).items())]
        elif path.suffix == ".json" and name != "manifest.json":
            parts = [json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True)]
        else:
            continue
        found[name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return found

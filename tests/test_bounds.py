"""Numbers that are out of range are one error, wherever they come from."""

import numpy as np
import pytest

from models.loading import create, load, save
from models.weights.configuration import longest_text
from semindex import flags
from semindex.cli import Parser
from semindex.errors import UserError
from semindex.search.hnsw import HnswIndex
from semindex.search.index import IndexSettings


@pytest.mark.parametrize(("flag", "value", "fits"), [
    ("--output_emb_size", 2**31, False), ("--output_emb_size", 65_537, False), ("--output_emb_size", 65_536, True), ("--output_emb_size", 0, True),
    ("--hnsw_m", 4096, False), ("--hnsw_m", 1025, False), ("--hnsw_m", 1024, True), ("--hnsw_m", 1, False),
])
def test_flags(flag, value, fits):
    parser = Parser("")
    flags.add_encoder(parser)
    flags.add_index(parser)
    if fits:
        assert getattr(parser.parse_args([flag, str(value)]), flag.strip("-")) == value
    else:
        with pytest.raises(UserError, match=rf"{flag}: {value} is not a whole number from"):
            parser.parse_args([flag, str(value)])


def test_room_that_no_machine_has_is_one_error():
    vectors = np.eye(4, 16, dtype=np.float32)
    with pytest.raises(UserError, match="--hnsw_m 1024 and --hnsw_max_elements 1000000000000: .* GB, more than there are"):
        HnswIndex.build(vectors, IndexSettings("hnsw", m=1024, capacity=10**12))
    assert len(HnswIndex.build(vectors, IndexSettings("hnsw", m=1024, capacity=10))) == 4


@pytest.mark.parametrize(("given", "message"), [
    ({"max_query_length": 600}, "--max_query_length 600: .* reads at most 512 tokens"),
    ({"max_seq_length": 600}, "--max_seq_length 600: .* reads at most 512 tokens"),
])
def test_lengths_beyond_the_encoders_positions(tmp_path, given, message):
    """In training (create, and load for --init_from_ckpt), ranking and recall (load)."""
    with pytest.raises(UserError, match=message):
        create("scratch-1x32", given, ["卡"])
    model, tokenizer = create("scratch-1x32", {"max_query_length": 512}, ["卡"])
    save(model, tokenizer, str(tmp_path))
    with pytest.raises(UserError, match=message):
        load(str(tmp_path), given)
    load(str(tmp_path), dict.fromkeys(given, 512))
    model.settings.max_query_length = 600  # what an altered file, or another encoder's, may say
    save(model, tokenizer, str(tmp_path))
    with pytest.raises(UserError, match="--max_query_length 600"):
        load(str(tmp_path), {})


def test_a_robertas_positions_begin_behind_its_padding():
    import paddle
    from paddlenlp.transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(vocab_size=20, hidden_size=32, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                           max_position_embeddings=10, pad_token_id=1)
    model = RobertaModel(config)
    model.eval()
    assert longest_text(config) == 8
    assert model(paddle.full([1, 8], 5, "int64"))[0].shape == [1, 8, 32]
    with pytest.raises(Exception, match=r"\d"):  # a position that the table lacks
        model(paddle.full([1, 9], 5, "int64"))[0].numpy()

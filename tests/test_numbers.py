"""Numbers on the command line."""

from argparse import ArgumentTypeError

import pytest

import train_ance
from semindex import cli
from semindex.errors import UserError


@pytest.mark.parametrize("kind", [cli.positive_int, cli.natural, cli.positive_float, cli.real, cli.seed])
@pytest.mark.parametrize("text", ["٣", "３", "१", "1_0", "²", "", "x", "nan", "1" * 5000])
def test_only_plain_digits_are_numbers(kind, text):
    """int() takes the digits of any script and underscores: `--batch_size ٣` was taken for 3."""
    with pytest.raises(ArgumentTypeError, match="is not a"):
        kind(text)
    assert kind("3") == 3


@pytest.mark.parametrize("words", [["--pooling_layer", "٣"], ["--num_train_epochs", "٢"]])
def test_flags_with_bounds_of_their_own_take_plain_digits_alone(words):
    with pytest.raises(UserError, match=words[0]):
        train_ance.parser().parse_args(["--train_set_file", "x", *words])

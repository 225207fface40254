"""Numbers on the command line."""

from argparse import ArgumentTypeError

import pytest

from semindex import cli


@pytest.mark.parametrize("kind", [cli.positive_int, cli.natural, cli.positive_float, cli.real, cli.seed])
@pytest.mark.parametrize("text", ["٣", "３", "१", "1_0", "²", "", "x", "nan", "1" * 5000])
def test_only_plain_digits_are_numbers(kind, text):
    """int() takes the digits of any script and underscores: `--batch_size ٣` was taken for 3."""
    with pytest.raises(ArgumentTypeError, match="is not a"):
        kind(text)
    assert kind("3") == 3

"""--temperature, the inverse of --scale, wherever a training script has one."""

import pytest
from conftest import fail

import train_ance
import train_batch_neg
import train_simcse
from semindex import flags

SCRIPTS = {"train_batch_neg.py": (train_batch_neg, 30.0), "train_simcse.py": (train_simcse, 20.0),
           "train_ance.py": (train_ance, 20.0)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_both_names_of_the_scale(script):
    module, usual = SCRIPTS[script]

    def scale(*words):
        return flags.scale_of(module.parser().parse_args(["--train_set_file", "x", *words]), usual)

    assert scale() == usual and scale("--scale", "7") == 7 and scale("--temperature", "0.05") == 20
    assert scale("--temperature", "4") == 0.25
    text = module.parser().format_help()
    assert f"[{usual:g}" in text and "--temperature T" in text


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_both_given_is_an_error(script, toy):
    said = fail(script, "--train_set_file", toy / "train.csv", "--scale", 20, "--temperature", 0.05)
    assert "argument --temperature: not allowed with argument --scale" in said
    assert "0 is not a number above 0" in fail(script, "--train_set_file", toy / "train.csv", "--temperature", 0)

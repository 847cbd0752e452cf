"""The words of messages: what a user does, and a phrase that the answer has to have.

Other tests assert the code and the key of an error. Here are the phrases that help to mend it.
"""

import pytest
from conftest import refusal

ARGUMENTS = [
    ("steps=-1", "steps=-1 is not allowed: steps has to be a whole number ≥ 1"),
    ("optim.betas=[0.5,1.5]", "a list of 2 numbers, each ≥ 0 and < 1"),
    ("name=5", "name has to be text (where it looks like a number in quotes"),
    ("loss=bse", "Did you mean 'mse'?"),
    ("loss=bse", "Choose from: bce, hinge"),
    ("norm=null", "norm=null: a group takes one of its options"),
    ("norm", "Can't read 'norm': a setting is key=value"),
    ("stepz=10", "There is no key 'stepz'. Did you mean 'steps'?"),
    ("activation.negative_slop=1", "Did you mean 'activation.negative_slope'?"),
    ("activation=gelu activation.negative_slope=0.2", "activation has: nothing to set"),
    ("callbacks.pictures=null", "Leave it out with ~callbacks.pictures."),
    ("trainer.precision=16-mixed", "one of 32-true, bf16-mixed"),
    ("trainer.devices=2", "Say trainer=ddp."),
    ("data=mnist", "dataset=… chooses the data, data.path=… names a packed file."),
    ("experiment=book/patern", "Did you mean 'book/pattern'?"),
]


@pytest.mark.parametrize(("overrides", "phrase"), ARGUMENTS)
def test_an_argument_that_is_refused(overrides, phrase):
    assert phrase in str(refusal(*overrides.split()))

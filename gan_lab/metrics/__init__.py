"""Numbers that say how a GAN does: tensors and numbers in, numbers out."""


class Undefined(ValueError):  # noqa: N818 - it says of a number what it is
    """A number that this input does not define; the message says why in plain words."""

"""Numbers that say how a GAN does: tensors and numbers in, numbers out."""

# What they are called in a run's summary.json, so that a user's own are called otherwise.
NAMES = {"samples", "finite", "compared", "modes", "modes_total", "modes_robust", "kl_uniform", "kl_data"}
NAMES |= {"high_quality", "class_accuracy", "evaluator_accuracy", "precision", "recall", "density", "coverage"}
NAMES |= {"frechet_distance", "pairwise_ratio", "ct", "authenticity", "ndb", "js"}
NAMES |= {"d_accuracy_real", "d_accuracy_fake", "d_answer_real", "d_answer_fake"}


class Undefined(ValueError):  # noqa: N818 - it says of a number what it is
    """A number that this input does not define; the message says why in plain words."""

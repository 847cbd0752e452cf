"""A digest of a dataset: a run is neither resumed with nor evaluated on other data than it was trained on."""

import hashlib
import math
from typing import Any

import torch

from gan_lab.core.errors import LabError
from gan_lab.data.dataset import Dataset, FlippedPart, Samples, StackedPart

MAX_VALUES = 2**26  # of a part that is digested as a whole; of a larger one, samples spread evenly over it
MAX_SPREAD_SAMPLES = 2_000  # of a larger part; fewer of large images
BLOCK_VALUES = 2**24  # values per read


def digest_of(dataset: Dataset) -> str:
    """Returns 32 hexadecimal digits that differ for other data: other samples, labels, shapes, classes or order.

    Of parts with more than `MAX_VALUES` values, `MAX_SPREAD_SAMPLES` samples at most are digested, with all labels and
    what a packed file says about its source. The points of a mixture of Gaussians are left out, since their last bits
    differ from one kind of processor to another; they follow from the configuration.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add_text(digest, dataset.source, *dataset.classes)
    with_values = dataset.centres is None
    for part in (dataset.train, dataset.heldout):
        _add_part(digest, part, with_values)
    return digest.hexdigest()


def refuse_other_data(checkpoint: dict[str, Any], digest: str, folder: object, hint: str) -> None:
    """Refuses data that are not those of a checkpoint.

    Args:
        checkpoint: as `gan_lab.core.run_folder.Run.load_checkpoint` returns it; `GANDataModule` stored the digest.
        digest: of the data at hand.
        folder: of the run, for the message.
        hint: how to solve it, for the message.

    Raises:
        LabError: if they are other data, or the checkpoint doesn't say which it had.
    """
    stored = checkpoint.get("GANDataModule")
    if not isinstance(stored, dict) or not isinstance(stored.get("digest"), str):
        raise LabError(
            f"{folder}: its checkpoint doesn't say which data it was trained on.",
            "Name another run.",
            code="damaged",
            key="dataset",
        )
    if stored["digest"] != digest:
        raise LabError(
            f"{folder} was trained on other data: what is there now isn't the same.",
            hint,
            code="conflict",
            key="dataset",
        )


def _add_part(digest: Any, part: Samples, with_values: bool) -> None:
    if isinstance(part, FlippedPart):
        _add_text(digest, "flipped")
        _add_part(digest, part.base, with_values)
        return
    if isinstance(part, StackedPart):
        _add_text(digest, "stacked")
        _add_part(digest, part.base, with_values)
        if part.triples is not None:
            digest.update(part.triples.contiguous().numpy())
        return
    _add_text(digest, str((len(part), *part.shape)))
    if part.labels is not None:
        digest.update(part.labels.contiguous().numpy())
    if with_values:
        _add_samples(digest, part)


def _add_samples(digest: Any, part: Samples) -> None:
    values_per_sample = math.prod(part.shape)
    indices = torch.arange(len(part))
    if len(part) * values_per_sample > MAX_VALUES:
        number = max(2, min(MAX_SPREAD_SAMPLES, MAX_VALUES // values_per_sample))
        indices = torch.linspace(0, len(part) - 1, number, dtype=torch.float64).long().unique()
    for block in indices.split(max(1, BLOCK_VALUES // values_per_sample)):
        digest.update(part.stored(block).contiguous().numpy())


def _add_text(digest: Any, *texts: str) -> None:
    for text in texts:
        encoded = text.encode(errors="surrogatepass")
        # The length before each text: else "ab", "c" would count as the same as "a", "bc".
        digest.update(len(encoded).to_bytes(8, "little") + encoded)

"""A digest of a dataset, so that a run doesn't go on with, nor is judged by, other data than it was trained on."""

import hashlib
import math
from typing import Any

import torch

from gan_lab.core.errors import LabError
from gan_lab.data.dataset import Dataset, FlippedPart, Samples, StackedPart

WHOLE = 2**26  # values of a part up to which all of them count; of a larger one, samples spread evenly over it
SPREAD = 2_000  # so many, fewer of large images
BLOCK = 2**24  # values read at once


def digest_of(dataset: Dataset) -> str:
    """Returns 32 hexadecimal digits that differ for other data: other samples, labels, shapes, classes or order.

    Of parts with more than `WHOLE` values at most `SPREAD` samples count, besides all labels and what the packed file
    says of its source. The points of a mixture don't count, for their last bits differ from one kind of processor to
    another; they follow from the configuration.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add_text(digest, dataset.source, *dataset.classes)
    for part in (dataset.train, dataset.heldout):
        _add_part(digest, part, values=dataset.centres is None)
    return digest.hexdigest()


def refuse_other_data(checkpoint: dict[str, Any], digest: str, folder: object, mend: str) -> None:
    """Refuses data that aren't those of a checkpoint.

    Args:
        checkpoint: as `gan_lab.core.run_folder.Run.load_checkpoint` returns it; `GANDataModule` has put the digest there.
        digest: of the data at hand.
        folder: the run's, for the message.

    Raises:
        LabError: if they are others, or the checkpoint doesn't say.
    """
    kept = checkpoint.get("GANDataModule")
    if not isinstance(kept, dict) or not isinstance(kept.get("digest"), str):
        raise LabError(f"{folder}: its checkpoint doesn't say which data it was trained on.", "Name another run.")
    if kept["digest"] != digest:
        raise LabError(f"{folder} was trained on other data: what lies there now isn't the same.", mend)


def _add_part(digest: Any, part: Samples, values: bool) -> None:
    if isinstance(part, FlippedPart):
        _add_text(digest, "flipped")
        _add_part(digest, part.base, values)
        return
    if isinstance(part, StackedPart):
        _add_text(digest, "stacked")
        _add_part(digest, part.base, values)
        if part.triples is not None:
            digest.update(part.triples.contiguous().numpy())
        return
    _add_text(digest, str((len(part), *part.shape)))
    if part.labels is not None:
        digest.update(part.labels.contiguous().numpy())
    if values:
        _add_samples(digest, part)


def _add_samples(digest: Any, part: Samples) -> None:
    stored_as = getattr(part, "stored", part.__getitem__)  # as bytes where images are kept as bytes
    size = math.prod(part.shape)
    indices = torch.arange(len(part))
    if len(part) * size > WHOLE:
        number = max(2, min(SPREAD, WHOLE // size))
        indices = torch.linspace(0, len(part) - 1, number, dtype=torch.float64).long().unique()
    for block in indices.split(max(1, BLOCK // size)):
        digest.update(stored_as(block).contiguous().numpy())


def _add_text(digest: Any, *texts: str) -> None:
    for text in texts:
        encoded = text.encode(errors="surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)

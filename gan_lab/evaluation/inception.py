"""The Inception network of published FIDs (Heusel et al. 2017), with the weights that torch-fidelity distributes.

It is torchvision's network with the pooling of the TensorFlow original, whose weights these are: averages leave out
the padding, and the last block takes the maximum.
"""

import hashlib
import io
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.hub import download_url_to_file, get_dir
from torchvision.models import Inception3
from tqdm import tqdm

from gan_lab.core.errors import LabError
from gan_lab.core.io import atomic, file_lock, read_bytes

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# The same file under pytorch-fid's name.
OTHER_NAME = "pt_inception-2015-12-05-6726825d.pth"
MAX_BYTES = 2**28

SIDE = 299  # pixels of the images that the network takes
OUTPUTS = 1008  # of its last layer, which isn't used
BATCH = 32
QUIET_IMAGES = 500  # so many need no progress bar

averages = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
maxima = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
POOLING = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), averages),
    "Mixed_7b": averages,
    "Mixed_7c": maxima,
}


class InceptionFeatures:
    """The 2,048 means before Inception's last layer: the space of published FID, precision and recall.

    It was trained on photographs of ImageNet; small images are enlarged to 299 × 299 pixels, gray ones become RGB. On a
    GPU if there is one; a core of a CPU takes 5 to 10 images a second.

    Args:
        cache_dir: the folder where the weights are looked for first, and where they are downloaded to.

    Raises:
        LabError: if the weights can't be had, or aren't the published ones.
    """

    name = "Inception-v3, as published FIDs"

    def __init__(self, cache_dir: Path):
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = _network(cache_dir).to(self._device)

    @torch.no_grad()
    def __call__(self, samples: Tensor) -> Tensor:
        """Returns features `(n, 2048)`, ≥ 0, of images `(n, C, H, W)` in [0, 1], with 1 or 3 channels."""
        is_quiet = True if len(samples) <= QUIET_IMAGES else None
        features = []
        with tqdm(total=len(samples), desc="Inception's features", unit="image", disable=is_quiet) as bar:
            for batch in samples.split(BATCH):
                # Published values are of images in bytes.
                pixels = (batch.to(self._device) * 255).round().clamp(0, 255).expand(-1, 3, -1, -1)
                features.append(self._network((resize(pixels) - 128) / 128).cpu())
                bar.update(len(batch))
        return torch.cat(features)


def resize(images: Tensor) -> Tensor:
    """Returns images `(n, C, H, W)` as `(n, C, 299, 299)`, by the bilinear interpolation of TensorFlow 1.

    Output pixel i lies at i · H / 299, so that the first pixels of both images are in one place. Torch's own
    interpolation puts the centres of the images together, which changes FIDs.
    """
    return _resize_axis(_resize_axis(images, 3), 2)


def _resize_axis(images: Tensor, axis: int) -> Tensor:
    length = images.shape[axis]
    scale = torch.tensor(length / SIDE, dtype=torch.float32)
    position = torch.arange(SIDE, dtype=torch.float32) * scale
    low = position.long()
    fraction = (position - low).to(images.device)
    if axis == 2:
        fraction = fraction[:, None]
    first = images.index_select(axis, low.to(images.device))
    second = images.index_select(axis, (low + 1).clamp_max(length - 1).to(images.device))
    return first + (second - first) * fraction


def new_network() -> Inception3:
    """Returns the network with random weights, up to its last layer."""
    network = Inception3(num_classes=OUTPUTS, aux_logits=False, init_weights=False)
    for name, pool in POOLING.items():
        block = getattr(network, name)
        block.forward = partial(_forward, block, pool)
    return network


def _forward(block: nn.Module, pool: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Computes a block of torchvision's network, but its last branch after another pooling."""
    branches = block._forward(x)[:-1]  # type: ignore[operator]
    branches.append(block.branch_pool(pool(x)))  # type: ignore[operator]
    return torch.cat(branches, 1)


def _network(cache_dir: Path) -> Inception3:
    """Returns the trained network without its last layer, in eval mode and frozen."""
    content = _weights(cache_dir)
    # The checksum was right. What weights_only=True refuses can't be in it, but it costs nothing.
    weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    network = new_network()
    network.load_state_dict(weights)
    network.fc = nn.Identity()
    return network.eval().requires_grad_(False)


def _weights(cache_dir: Path) -> bytes:
    """Returns the content of the file with the weights; downloads it if it is nowhere.

    Raises:
        LabError: if it can't be had, or isn't the published one.
    """
    target = cache_dir / FILE
    # Where torch-fidelity and torchmetrics keep it.
    hub = Path(get_dir()) / "checkpoints"
    for path in (target, cache_dir / OTHER_NAME, hub / FILE, hub / OTHER_NAME):
        if path.is_file():
            return _checked(path)
    with file_lock(target, "fetching Inception's weights"):
        if not target.is_file():
            _download(target)
    return _checked(target)


def _checked(path: Path) -> bytes:
    """Returns the content of a file if its checksum is the published one."""
    content = read_bytes(path, MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise LabError(
            f"{path} isn't Inception's weights as torch-fidelity distributes them: its checksum is wrong.",
            f"Remove it; then they are downloaded, or fetch {URL}",
            code="damaged",
            key=path.name,
        )
    return content


def _download(target: Path) -> None:
    try:
        with atomic(target) as temporary:
            download_url_to_file(URL, str(temporary), SHA256, progress=sys.stderr.isatty())
    except (URLError, RuntimeError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise LabError(
            f"features=inception needs Inception's weights, which could not be downloaded: {reason}.",
            f"Fetch {URL} and put it into {target.parent}, or name its folder: cache_dir=…",
            code="missing",
            key="features",
        ) from error

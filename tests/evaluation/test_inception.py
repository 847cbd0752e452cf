"""Inception's features: the network is torch-fidelity's, and its weights are those or none."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import refused, web_server
from PIL import Image

from gan_lab.data.dataset import Dataset, Part
from gan_lab.data.synthetic import ring
from gan_lab.evaluation import inception
from gan_lab.evaluation.feature_spaces import features_of
from gan_lab.evaluation.metrics.fidelity import frechet_distance
from gan_lab.pack.sample_request import SampleRequest
from gan_lab.pack.samples import read_samples

pytestmark = pytest.mark.xdist_group("inception")


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory) -> Path:
    """A file with random weights in the form of the published one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = inception.new_network()
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.05, 0.2)
    path = tmp_path_factory.mktemp("weights") / inception.FILE
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def published(random_weights, tmp_path, monkeypatch) -> Path:
    """The folder of weights that are taken for the published ones; nothing else on this machine is."""
    checksum = hashlib.sha256(random_weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "SHA256", checksum)
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/nowhere.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return random_weights.parent


@pytest.mark.slow
def test_the_features_are_torch_fidelitys(published):
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    theirs = extractor.FeatureExtractorInceptionV3("x", ["2048"], str(published / inception.FILE))
    ours = inception.InceptionFeatures(published)
    for shape in ((1, 3, 32, 32), (1, 1, 28, 28), (1, 3, 40, 300)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        pixels = (images * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        assert torch.equal(ours(images), theirs(pixels)[0])


@pytest.mark.slow
def test_torch_fidelitys_command_gives_our_frechet_distance(published, tmp_path):
    pytest.importorskip("torch_fidelity")
    features = inception.InceptionFeatures(published)
    rng = torch.Generator().manual_seed(0)
    spaces = []
    for name, scale in (("generated", 255), ("real", 128)):
        (tmp_path / name).mkdir()
        for i in range(16):
            pixels = (torch.rand(40, 30, 3, generator=rng) * scale).byte().numpy()
            Image.fromarray(pixels).save(tmp_path / name / f"{i:02}.png")
        images = read_samples(SampleRequest(tmp_path / name, name)).values
        spaces.append(features(Part(images, None)[torch.arange(16)]))
    fid = ("--fid", "--input1", "generated", "--input2", "real", "--cpu", "--json", "--no-cache")
    weights = ("--feature-extractor-weights-path", published / inception.FILE)
    words = (sys.executable, "-m", "torch_fidelity.fidelity", *fid, *weights)
    done = subprocess.run([*map(str, words)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout[done.stdout.index("{") :])["frechet_inception_distance"]
    # 16 images span 15 of 2,048 dimensions: the eigenvalues of the others are rounding errors, and their roots add up.
    assert frechet_distance(spaces[1], spaces[0]) == pytest.approx(theirs, rel=1e-5)


def test_the_pooling_is_that_of_the_original(published):
    """Of equal values averages that leave the padding out are equal at the edges, too; torchvision's aren't."""
    network = inception._network(published)
    outputs = []
    network.Mixed_5b.branch_pool.register_forward_hook(lambda _, inputs, __: outputs.append(inputs[0]))
    x = torch.rand(1, 192, 1, 1).expand(1, 192, 9, 9)
    network.Mixed_5b(x)
    torch.testing.assert_close(outputs[-1], x)
    network.Mixed_7c.branch_pool.register_forward_hook(lambda _, inputs, __: outputs.append(inputs[0]))
    peak = torch.zeros(1, 2048, 8, 8)
    peak[:, :, 3, 3] = 1
    network.Mixed_7c(peak)
    assert outputs[-1].unique().tolist() == [0, 1]


def test_images_are_enlarged_from_their_first_pixel_on():
    """Of pixels 0 and 1 the 299 new ones go from 0 to 1 in 149.5 steps, and stay there, as in TensorFlow 1."""
    enlarged = inception.resize(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2))
    assert enlarged.shape == (1, 1, 299, 299)
    expected = (torch.arange(299) * 2 / 299).clamp(max=1)
    torch.testing.assert_close(enlarged[0, 0, 0], expected)
    assert torch.equal(enlarged[0, 0, 0], enlarged[0, 0, -1])


def test_images_are_compared_in_its_space(published):
    part = Part(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    features = features_of(Dataset(part, part), None, "inception", published)
    assert "Inception" in features.name
    first, second = features(part.values)
    assert first.shape == (2048,)
    assert (first >= 0).all()
    assert not torch.equal(first, second)


def test_points_have_no_such_space(published):
    with refused("unsupported", "features"):
        features_of(ring(samples=20), None, "inception", published)


@pytest.mark.parametrize("name", [inception.FILE, inception.OTHER_NAME])
@pytest.mark.parametrize("place", ["cache", "torch/hub/checkpoints"])
def test_a_given_file_is_found_under_both_names(published, tmp_path, name, place):
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / name).symlink_to(published / inception.FILE)
    assert inception._weights(tmp_path / "cache") == (published / inception.FILE).read_bytes()


def test_it_is_downloaded_once(published, tmp_path, monkeypatch):
    with web_server(published) as address:
        monkeypatch.setattr(inception, "URL", address + inception.FILE)
        inception._weights(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").glob("*.pth")] == [inception.FILE]
    inception._weights(tmp_path / "cache")


@pytest.mark.parametrize("served", ["nothing", "another file"])
def test_without_network_or_with_another_file_nothing_is_left(published, tmp_path, monkeypatch, served):
    (tmp_path / "site").mkdir()
    if served == "another file":
        (tmp_path / "site" / inception.FILE).write_bytes(b"<html>log in</html>")
    with web_server(tmp_path / "site") as address:
        monkeypatch.setattr(inception, "URL", address + inception.FILE)
        with refused("missing", "features") as error:
            inception.InceptionFeatures(tmp_path / "cache")
    assert inception.URL in str(error.value)
    assert str(tmp_path / "cache") in str(error.value)
    assert not list((tmp_path / "cache").glob("*.pth"))
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_a_damaged_file_is_refused_before_anything_of_it_is_loaded(published, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", None)
    (tmp_path / inception.FILE).write_bytes((published / inception.FILE).read_bytes()[:-1])
    with refused("damaged", inception.FILE):
        inception.InceptionFeatures(tmp_path)


def test_the_published_file_is_named_rightly():
    assert re.fullmatch("[0-9a-f]{64}", inception.SHA256)
    assert inception.SHA256[:8] in inception.FILE
    assert inception.SHA256[:8] in inception.OTHER_NAME
    assert inception.URL.endswith(inception.FILE)
    assert inception.MAX_BYTES > 95_628_359, "bytes of the published file"

"""Any argument of train.py ends in a run or in one message: hundreds of wrong ones."""

import pytest
from fuzzing import (
    ARGUMENTS,
    CASES,
    KEYS,
    MORE,
    NODES,
    PLAIN,
    SETTINGS,
    TINY,
    VALUES,
    cases,
    launch,
    needs_alarm,
    temporary_folder,
    train_in_new_folder,
)
from hypothesis import given
from hypothesis import strategies as st

from gan_lab.config.targets import CONF

pytestmark = [needs_alarm, pytest.mark.usefixtures("undrawn", "quick_verdict")]


def test_there_are_hundreds_of_fast_cases_and_five_hundred_with_the_slow_ones():
    assert sum(CASES.values()) >= 250
    assert sum(times * CASES[kind] for kind, times in MORE.items()) + sum(CASES.values()) >= 500


FOREIGN = [
    "os.system",
    "os.popen",
    "os.mkdir",
    "posix.mkdir",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "subprocess.Popen",
    "subprocess.run",
    "torch.load",
    "torch.hub.load",
    "torch.os.mkdir",
    "torch.os.system",
    "torch.save",
    "gan_lab.core.run_folder.Run.discard",
    "gan_lab.core.run_folder.atomic",
    "gan_lab.data.images.os.mkdir",
    "gan_lab.data.images.Path.mkdir",
    "gan_lab.data.images.Path.touch",
    "gan_lab.training.callbacks.loggers.pd.read_pickle",
    "pathlib.Path.touch",
    "pathlib.Path.unlink",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "shutil.rmtree",
    "importlib.import_module",
    "torch.nn.modules.module.warnings.warn",
    "torch.nn.__builtins__",
    "torch.nn.Module.__init__.__globals__",
    "pytorch_lightning.callbacks.os",
    "gan_lab.training.callbacks.evaluation.time.sleep",
    "yaml.unsafe_load",
    "pickle.loads",
    "numpy.load",
    "gan_lab",
    "torch",
    "pytorch_lightning.Trainer",
]
WRONG_KIND = [
    "gan_lab.gan.latent.Normal",
    "gan_lab.gan.latent.Latent",
    "gan_lab.gan.losses.BCE",
    "gan_lab.gan.losses.Loss",
    "gan_lab.gan.losses.F.relu",
    "gan_lab.gan.networks.norms.LayerNorm",
    "gan_lab.gan.networks.mlp.Generator",
    "gan_lab.gan.networks.mlp.Discriminator",
    "gan_lab.gan.networks.conv.Generator",
    "gan_lab.data.dataset.Dataset",
    "gan_lab.data.dataset.Part",
    "gan_lab.data.dataset.MAX_SHUFFLED",
    "gan_lab.data.dataset",
    "gan_lab.data.synthetic.ring",
    "torch.nn.ReLU",
    "gan_lab.training.callbacks.loggers.MetricsTable",
    "gan_lab.training.callbacks.evaluation.Evaluation",
    "gan_lab.training.callbacks.checkpoints.StopOnSignal",
    "torch.nn.Linear",
    "torch.nn.Module",
    "torch.nn.functional.relu",
    "torch.nn.init.normal_",
    "torch.nn",
    "torch.nn.Softmax",
    "torch.nn.GLU",
    "torch.nn.Flatten",
    "torch.nn.PReLU",
    "torch.nn.LSTM",
    "torch.nn.Parameter",
    "torch.nn.Sequential",
    "torch.nn.MSELoss",
    "torch.nn.BatchNorm1d",
    "torch.optim.SGD",
    "torch.optim.LBFGS",
    "torch.optim.SparseAdam",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.StepLR",
    "torch.nn.",
    "pytorch_lightning.callbacks.Timer",
    "pytorch_lightning.callbacks.Callback",
    "pytorch_lightning.callbacks.EarlyStopping",
    "..",
    "x",
    "3",
    "pytorch_lightning.callbacks.ModelSummary",
    "pytorch_lightning.loggers.WandbLogger",
    "pytorch_lightning.loggers.Logger",
]
# Nodes of the configuration that are instantiated.
INSTANTIATED = [node for node in NODES if f"{node}._target_" in KEYS]
# These would leave a canary if they ran; parts without settings of their own would let them.
HARMFUL = [
    ("os.system", "command"),
    ("posix.system", "command"),
    ("torch.os.system", "command"),
    ("gan_lab.data.images.os.system", "command"),
    ("os.popen", "cmd"),
    ("os.mkdir", "path"),
    ("torch.os.mkdir", "path"),
    ("gan_lab.data.images.os.mkdir", "path"),
]


def _without_settings() -> list[str]:
    nodes = []
    for node in INSTANTIATED:
        keys = [key for key in KEYS if key.startswith(f"{node}.")]
        if keys == [f"{node}._target_"]:
            nodes.append(node)
    return nodes


WITHOUT_SETTINGS = _without_settings()


@cases("values")
@given(SETTINGS)
def test_any_value_trains_or_is_refused(override):
    train_in_new_folder(override)


@cases("arguments")
@given(st.lists(ARGUMENTS, min_size=1, max_size=2))
def test_any_argument_trains_or_is_refused(arguments):
    train_in_new_folder(*arguments)


@pytest.mark.parametrize(
    "argument", ["hydra=3", "hydra/launcher=3", "+loss=3", "remedy@x=3", "~loss=3", "data_dir=${nope:3}"]
)
def test_arguments_that_hydra_or_omegaconf_refuse_late(argument):
    """They ended in a traceback or left a folder."""
    with temporary_folder() as cwd:
        assert launch("train.py", *TINY, argument, cwd=cwd).status == 2


REMEDIES = [file.stem for file in sorted((CONF / "remedy").glob("*.yaml"))]
# Keys of remedies, and others that matter to them; * stands for a remedy.
REMEDY_KEYS = [
    "remedy.*.gamma",
    "remedy.*.weight",
    "remedy.*.decay",
    "remedy.*.steps",
    "remedy.*.fraction",
    "remedy.*.end",
    "remedy.*._partial_",
    "remedy.*.k",
    "remedy.*.lr",
    "remedy.*.m",
    "remedy.*.group",
    "remedy.*.real",
    "remedy.*.std",
    "remedy.*.max_auc",
    "remedy.*.warmup_steps",
    "remedy.*.kernels",
    "remedy.*.dims",
    "remedy.*",
    "n_critic",
    "n_generator",
    "conditional",
    "joint_d_update",
    "replicas",
    "batch_size",
    "latent_dim",
]
CHOICES = [
    "loss=relativistic",
    "loss=hinge",
    "loss=wasserstein",
    "norm=batch",
    "norm=spectral",
    "dataset=ring",
    "latent=constant",
    "latent=mixture",
    "model.he_init=true",
    "replicas=2",
    "conditional=true",
    "n_critic=2",
    "n_generator=2",
]


@cases("remedies")
@given(
    st.lists(st.sampled_from(REMEDIES), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(REMEDY_KEYS), st.one_of(st.sampled_from(PLAIN), VALUES)), max_size=1),
    st.lists(st.sampled_from(CHOICES), max_size=2),
    st.integers(0, 3),
)
def test_any_remedies_train_or_are_refused(names, settings, choices, number):
    remedy = names[number % len(names)]
    values = [f"{key.replace('*', remedy)}={value}" for key, value in settings]
    train_in_new_folder(f"remedy=[{','.join(names)}]", *choices, *values)


@cases("targets")
@given(st.sampled_from(INSTANTIATED), st.sampled_from(FOREIGN + WRONG_KIND))
def test_any_target_trains_or_is_refused(node, target):
    train_in_new_folder(f"{node}._target_={target}")


@cases("harmful")
@given(st.sampled_from(WITHOUT_SETTINGS), st.sampled_from(HARMFUL))
def test_no_foreign_target_runs(node, harmful):
    target, key = harmful
    value = "canary" if key == "path" else "touch canary"
    train_in_new_folder(f"{node}._target_={target}", f"+{node}.{key}='{value}'")


@pytest.mark.slow
def test_many_more_cases():
    """The same strategies, drawn further."""
    cases("values", MORE["values"])(given(SETTINGS)(lambda override: train_in_new_folder(override)))()
    lists = st.lists(ARGUMENTS, min_size=1, max_size=2)
    cases("arguments", MORE["arguments"])(given(lists)(lambda arguments: train_in_new_folder(*arguments)))()
    pairs = st.tuples(st.sampled_from(INSTANTIATED), st.sampled_from(FOREIGN + WRONG_KIND))
    cases("targets", MORE["targets"])(given(pairs)(lambda pair: train_in_new_folder(f"{pair[0]}._target_={pair[1]}")))()

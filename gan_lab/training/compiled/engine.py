"""Passes a `GANModule` to the compiled step.

The module stays the owner of everything: its weights, the optimizers' states and the averages are updated in place, so
that pictures, checkpoints and the verdict see no difference.
"""

import ctypes
import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from numba.core import event
from numba.extending import get_cython_function_address
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import Optimizer
from tqdm import tqdm

from gan_lab.core.terminal import in_notebook, say
from gan_lab.data.datamodule import StepBlock
from gan_lab.gan.losses import LabelSmoothing
from gan_lab.gan.remedies.input_transforms import InstanceNoise
from gan_lab.gan.remedies.penalties import R1, R2, GradientPenalty, LeCam
from gan_lab.training.compiled import step
from gan_lab.training.compiled.coverage import ACTIVATIONS, LINEAR, LOSSES, NONLINEAR, NORMS, OPTIMIZERS, layers_of
from gan_lab.training.step_context import step_rng

if TYPE_CHECKING:
    from gan_lab.training.gan_module import GANModule

# Names of what an optimizer keeps for each parameter.
MOMENTS = {
    step.ADAM: ("exp_avg", "exp_avg_sq"),
    step.ADAMW: ("exp_avg", "exp_avg_sq"),
    step.SGD: ("momentum_buffer",),
    step.RMSPROP: ("square_avg",),
}


# The memory in which a thread computes: the changing fields of D and of G.
Buffers = tuple[dict[str, Any], dict[str, Any]]

# Threads don't change members after fewer steps than these, as a call takes some time by itself.
LEAST_STEPS = 10


class CompiledEngine:
    """Trains a module by the compiled step, in `module.member_threads` threads.

    A member's operations are the same in whichever thread, and no two threads work at the same member at a time. So no
    bit depends on the number of threads.

    Args:
        module: one that `gan_lab.training.compiled.coverage` covers, on the CPU, in float32 or float64.
        optimizers: D's and G's.
    """

    def __init__(self, module: "GANModule", optimizers: Sequence[Optimizer]):
        self.module = module
        self.optimizer_d, self.optimizer_g = optimizers
        self.dtype = next(module.generator.parameters()).dtype
        self._real = torch.empty(0, dtype=self.dtype).numpy().dtype
        self._gemm = gemm_address(self.dtype)
        self._buffers: list[Buffers] = []
        self._threads = module.member_threads
        # Torch's number of threads holds for the thread that sets it; in others BLAS would use threads of its own.
        self._pool = ThreadPoolExecutor(self._threads, "members", torch.set_num_threads, (1,))
        penalties = module.remedies.penalties
        self._gradient_penalties: dict[type[GradientPenalty], GradientPenalty] = {}
        for penalty in penalties:
            if isinstance(penalty, GradientPenalty):
                self._gradient_penalties[type(penalty)] = penalty
        self._lecam = next((penalty for penalty in penalties if isinstance(penalty, LeCam)), None)
        for optimizer in optimizers:
            _init_state(optimizer)

    @torch.no_grad()
    def play(self, block: StepBlock) -> Tensor:
        """Trains for the steps of a block.

        Returns:
            The RECORDED values of each step, `(S, 5, …)`; 0 for members that have failed.
        """
        module = self.module
        real, labels = (block, None) if isinstance(block, Tensor) else block
        steps = len(real) // module.n_critic
        batch_size = real.shape[1 + len(module.replica_dims)] // module.remedies.pack_size
        record = np.empty((steps, 5, module.replicas), self._real)
        gan = self._gan(batch_size)
        inputs = self._block(real, labels)
        if self._threads == 1:
            step.training_steps(gan, inputs, record)
        else:
            self._share(gan, inputs, record)
        self._count(steps)
        if self._lecam is not None:
            means = torch.from_numpy(gan.lecam_means).view(*module.replica_dims, 2)
            self._lecam.real_mean = means[..., 0].clone()
            self._lecam.fake_mean = means[..., 1].clone()
        values = torch.from_numpy(record)
        return values if module.replica_dims else values.squeeze(-1)

    def close(self) -> None:
        """Ends the threads, once they have done what they are doing."""
        self._pool.shutdown()

    def _share(self, gan: step.GAN, block: step.Block, record: np.ndarray[Any, Any]) -> None:
        """Does the same as `step.training_steps`, in several threads.

        The steps are divided into so many parts that each thread can get equally many. A thread takes the member that
        has waited longest, trains it for its next part, and puts it back: a faster thread trains more parts.
        """
        record.fill(0)
        members = np.flatnonzero(block.trained)
        number = self._threads // math.gcd(self._threads, len(members))
        number = min(number, max(1, len(record) // LEAST_STEPS))
        borders = [len(record) * i // number for i in range(number + 1)]
        parts = [self._part(gan, block, start, end) for start, end in pairwise(borders)]
        records = [record[start:end] for start, end in pairwise(borders)]
        queue = deque((member, 0) for member in members)

        def train(buffers: Buffers) -> None:
            while True:
                try:
                    member, i = queue.popleft()
                except IndexError:
                    return
                part, inputs = parts[i]
                alone = inputs._replace(trained=np.arange(len(block.trained)) == member)
                result = np.empty_like(records[i])
                step.training_steps(_computing_in(buffers, part), alone, result)
                records[i][:, :, member] = result[:, :, member]
                if i + 1 < number:
                    queue.append((member, i + 1))

        try:
            for future in [self._pool.submit(train, buffers) for buffers in self._buffers]:
                future.result()
        except BaseException:
            # The training ends. A second signal, too, interrupts this thread only: wait for the others.
            self.close()
            raise

    def _part(self, gan: step.GAN, block: step.Block, start: int, end: int) -> tuple[step.GAN, step.Block]:
        """Returns the GAN as it is after `start` steps of a block, and the inputs of the steps from there to `end`."""
        d_updates, g_updates = self._updates(start)
        batches = slice(start * self.module.n_critic, end * self.module.n_critic)
        steps = slice(start, end)
        later = gan._replace(
            recipe=gan.recipe._replace(lecam_calls=gan.recipe.lecam_calls + d_updates),
            d=_after(gan.d, d_updates),
            g=_after(gan.g, g_updates),
        )
        inputs = step.Block(
            real=block.real[batches],
            labels=block.labels[batches],
            latents=block.latents[steps],
            noise=block.noise[steps],
            rates=block.rates[steps],
            gammas=block.gammas[steps],
            average_decays=block.average_decays[steps],
            top=block.top[steps],
            trained=block.trained,
        )
        return later, inputs

    def _gan(self, batch_size: int) -> step.GAN:
        """Describes the module as it is now."""
        module = self.module
        lecam_means = np.zeros((module.replicas, 2), self._real)
        if self._lecam is not None:
            lecam_means[:, 0] = self._lecam.real_mean.reshape(-1)
            lecam_means[:, 1] = self._lecam.fake_mean.reshape(-1)
        while len(self._buffers) < self._threads:
            g_rows = batch_size * module.remedies.pack_size
            d_buffers = self._new_buffers(module.discriminator, 2 * batch_size, bool(self._gradient_penalties))
            self._buffers.append((d_buffers, self._new_buffers(module.generator, g_rows, penalised=False)))
        d_buffers, g_buffers = self._buffers[0]
        averaged = module.averaged.network if module.averaged else None
        return step.GAN(
            recipe=self._recipe(batch_size),
            d=step.Network(
                **d_buffers,
                parameters=self._parameters(module.discriminator, self.optimizer_d, None, module.anchor_d),
                optimizer=_optimizer(self.optimizer_d, module.anchor_d),
            ),
            g=step.Network(
                **g_buffers,
                parameters=self._parameters(module.generator, self.optimizer_g, averaged, module.anchor_g),
                optimizer=_optimizer(self.optimizer_g, module.anchor_g),
            ),
            scores=step.Scores(*np.zeros((4, batch_size), self._real)),
            lecam_means=lecam_means,
        )

    def _new_buffers(self, network: nn.Module, rows: int, penalised: bool) -> dict[str, Any]:
        """Returns the fields of a network that stay the same from block to block."""
        widths, stages, constants = _stages(network)
        n = len(stages)
        widest = max(widths)
        kinds = step.TANGENT_Y + 1 if penalised else step.ADJOINT + 1
        smooth = any(stage[step.ACTIVATION] not in (step.IDENTITY, step.LEAKY_RELU) for stage in stages)
        size = sum(parameter.numel() for parameter in network.parameters()) // self.module.replicas
        return {
            "widths": np.array(widths),
            "stages": np.array(stages),
            "constants": np.array(constants, self._real),
            "gradient": self._zeros(size),
            "tape": self._zeros(kinds, n + 1, rows * widest),
            "inverse_stds": self._zeros(n, rows),
            "penalised": np.zeros(2, np.int64),
            "row": self._zeros(widest),
            "bits": np.zeros(widest, np.int32),
            "curved": penalised and smooth,
            "gemm": self._gemm,
        }

    def _zeros(self, *shape: int) -> np.ndarray[Any, Any]:
        """Returns an array that begins, as torch's tensors do, at a multiple of 64 bytes.

        How BLAS rounds may depend on that, and a resumed training has to round as if it had not been interrupted.
        """
        return torch.zeros(shape, dtype=self.dtype).numpy()

    def _recipe(self, batch_size: int) -> step.Recipe:
        module = self.module
        smoothing = module.loss if isinstance(module.loss, LabelSmoothing) else None
        loss = smoothing.loss if smoothing else module.loss
        lecam = self._lecam
        return step.Recipe(
            loss=LOSSES.index(type(loss)),
            real_target=float(smoothing.real) if smoothing else 1.0,
            probability=bool(loss.d_output_is_probability),
            paired=bool(loss.paired),
            joint=bool(module.joint),
            n_critic=module.n_critic,
            n_generator=module.n_generator,
            batch_size=batch_size,
            lecam_weight=float(lecam.weight) if lecam else 0.0,
            lecam_decay=float(lecam.decay) if lecam else 0.0,
            lecam_warmup=int(lecam.warmup_steps) if lecam else 0,
            lecam_calls=int(lecam.calls) if lecam else 0,
            averaged=module.averaged is not None,
        )

    def _block(self, real: Tensor, labels: Tensor | None) -> step.Block:
        """Prepares the inputs of a block, with random numbers in the order in which `GANModule` draws them.

        Args:
            real: `(S · n_critic, …, B · m, *shape)`.
            labels: `(S · n_critic, …, B)`; None without classes.
        """
        module = self.module
        turns = module.n_critic + module.n_generator
        steps = len(real) // module.n_critic
        lead = module.replica_dims
        rows = real.shape[1 + len(lead)]
        batch_size = rows // module.remedies.pack_size
        real = real.to(self.dtype).flatten(2 + len(lead))
        labels_onehot = None if labels is None else one_hot(labels, module.classes).to(self.dtype)
        rates = np.empty((steps, 2))
        gammas = np.zeros((steps, 2))
        average_decays = np.zeros(steps)
        top = np.full(steps, batch_size)
        latents: list[Tensor] = []
        noise: list[Tensor] = []
        for t in range(steps):
            number = module.step + t
            if module.remedies.lr_decay:
                module.remedies.lr_decay.apply(number, self.optimizer_d, self.optimizer_g)
            rates[t] = self.optimizer_d.param_groups[0]["lr"], self.optimizer_g.param_groups[0]["lr"]
            for column, kind in enumerate((R1, R2)):
                if kind in self._gradient_penalties:
                    gammas[t, column] = self._gradient_penalties[kind].gamma_at(number)
            if module.remedies.ema:
                average_decays[t] = module.remedies.ema.decay_at(number)
            if module.remedies.top_k:
                top[t] = module.remedies.top_k.k(batch_size, number)
            for turn in range(turns):
                # G's updates use the labels of D's last batch.
                batch = t * module.n_critic + min(turn, module.n_critic - 1)
                batch_labels = None if labels_onehot is None else labels_onehot[batch]
                latents.append(module.latents.sample(rows, batch_labels))
            noise += self._noise(number, real[t * module.n_critic : (t + 1) * module.n_critic])
        members = module.replicas
        if labels_onehot is None:
            labels_onehot = real.new_empty(len(real), members, batch_size, 0)
        noise_width = real.shape[-1] if noise else 0
        no_noise = [real.new_empty(steps * turns, 0)]
        trained = np.ones(members, np.bool_)
        trained[list(module.step_log.failed)] = False
        return step.Block(
            real=real.reshape(len(real), members, rows, -1).numpy(),
            labels=labels_onehot.view(len(real), members, batch_size, -1).numpy(),
            latents=torch.cat(latents).to(self.dtype).view(steps, turns, members, rows, -1).numpy(),
            noise=torch.cat(noise or no_noise).view(steps, turns, members, rows, noise_width).numpy(),
            rates=rates,
            gammas=gammas,
            average_decays=average_decays,
            top=top,
            trained=trained,
        )

    def _noise(self, number: int, real: Tensor) -> list[Tensor]:
        """Adds instance noise to the real samples of a step `(n_critic, …, B · m, d)`, in place.

        Returns:
            The noise of the fakes, `(…, B · m, d)` for each update of D and of G; empty without noise.
        """
        module = self.module
        for transform in module.remedies.input_transforms:
            if isinstance(transform, InstanceNoise):
                break
        else:
            return []
        fakes = torch.zeros_like(real[0])
        noise = []
        for turn in range(1, module.n_critic + 1):
            rng = step_rng(module, turn, number)
            real[turn - 1] = transform(real[turn - 1], number, rng)
            noise.append(transform(fakes, number, rng))
        for _ in range(module.n_generator):
            noise.append(transform(fakes, number, rng))
        return noise

    def _parameters(
        self, network: nn.Module, optimizer: Optimizer, averaged: nn.Module | None, anchor: nn.Module | None
    ) -> np.ndarray[Any, Any]:
        """Returns the table `parameters` of a network: sizes, places in the gradient, addresses."""
        parameters = list(network.parameters())
        table = np.zeros((step.PAST_MEAN + 1, len(parameters)), np.int64)
        table[step.SIZE] = [parameter.numel() // self.module.replicas for parameter in parameters]
        table[step.START] = np.cumsum(table[step.SIZE]) - table[step.SIZE]
        table[step.VALUE] = [parameter.data_ptr() for parameter in parameters]
        for row, name in enumerate(_moments(optimizer), step.FIRST_MOMENT):
            table[row] = [optimizer.state[parameter][name].data_ptr() for parameter in parameters]
        if averaged is not None:
            table[step.AVERAGE] = [parameter.data_ptr() for parameter in averaged.parameters()]
        if anchor is not None:
            table[step.PAST_MEAN] = [anchor.get_buffer(f"mean_{i}").data_ptr() for i in range(len(parameters))]
        return table

    def _updates(self, steps: int) -> tuple[int, int]:
        """Returns how often D and G are updated in some steps."""
        module = self.module
        return steps * module.n_critic * (1 if module.joint else 2), steps * module.n_generator

    def _count(self, steps: int) -> None:
        """Counts the updates of a block where the parts of the module count them."""
        module = self.module
        d_updates, g_updates = self._updates(steps)
        for optimizer, updates in ((self.optimizer_d, d_updates), (self.optimizer_g, g_updates)):
            counters = [state["step"] for state in optimizer.state.values() if "step" in state]
            if counters:
                torch._foreach_add_(counters, updates)
        if module.anchor_d is not None and module.anchor_g is not None:
            module.anchor_d.calls += d_updates
            module.anchor_g.calls += g_updates
        if self._lecam is not None:
            self._lecam.calls += d_updates


def _stages(network: nn.Module) -> tuple[list[int], list[list[int]], list[list[float]]]:
    """Returns the widths, stages and constants of a covered network; see `step.Network`."""
    numbers = {id(parameter): i for i, parameter in enumerate(network.parameters())}
    widths: list[int] = []
    stages: list[list[int]] = []
    constants: list[list[float]] = []
    for layer in layers_of(network) or ():
        if isinstance(layer, LINEAR):
            if not widths:
                widths.append(layer.weight.shape[-1])
            widths.append(layer.weight.shape[-2])
            stages.append([step.IDENTITY, numbers[id(layer.weight)], numbers[id(layer.bias)], -1, -1])
            constants.append([0.0, -1.0])
        elif isinstance(layer, NORMS):
            stages[-1][step.SCALE :] = numbers[id(layer.weight)], numbers[id(layer.bias)]
            constants[-1][step.EPSILON] = layer.eps
        elif isinstance(layer, NONLINEAR):
            kind = nn.LeakyReLU if isinstance(layer, nn.ReLU) else type(layer)
            stages[-1][step.ACTIVATION] = ACTIVATIONS.index(kind)
            constants[-1][step.NEGATIVE_SLOPE] = getattr(layer, "negative_slope", 0.0)
    return widths, stages, constants


def _moments(optimizer: Optimizer) -> tuple[str, ...]:
    """Returns the names of what an optimizer keeps for each parameter."""
    kind = OPTIMIZERS.index(type(optimizer))
    if kind == step.SGD and not optimizer.param_groups[0]["momentum"]:
        return ()
    return MOMENTS[kind]


def _optimizer(optimizer: Optimizer, anchor: Any) -> step.Optimizer:
    (group,) = optimizer.param_groups
    kind = OPTIMIZERS.index(type(optimizer))
    beta_1, beta_2 = group.get("betas", (group.get("momentum", 0.0), group.get("alpha", 0.0)))
    states = list(optimizer.state.values())
    updates = int(states[0]["step"]) if states and "step" in states[0] else 0
    return step.Optimizer(
        kind=kind,
        beta_1=float(beta_1),
        beta_2=float(beta_2),
        epsilon=float(group.get("eps", 0.0)),
        weight_decay=float(group["weight_decay"]),
        updates=updates,
        history_weight=float(anchor.weight) if anchor is not None else 0.0,
        history_calls=int(anchor.calls) if anchor is not None else 0,
    )


def _after(network: step.Network, updates: int) -> step.Network:
    """Returns a network whose optimizer and anchor have counted so many more updates."""
    optimizer = network.optimizer
    counted = optimizer._replace(updates=optimizer.updates + updates, history_calls=optimizer.history_calls + updates)
    return network._replace(optimizer=counted)


def _computing_in(buffers: Buffers, gan: step.GAN) -> step.GAN:
    """Returns the same GAN with memory of its own for what it computes on the way."""
    d_buffers, g_buffers = buffers
    scores = step.Scores(*map(np.zeros_like, gan.scores))
    return gan._replace(d=gan.d._replace(**d_buffers), g=gan.g._replace(**g_buffers), scores=scores)


def _init_state(optimizer: Optimizer) -> None:
    """Creates what an optimizer keeps for each parameter, as its first step would."""
    for parameter in optimizer.param_groups[0]["params"]:
        if optimizer.state.get(parameter) or not _moments(optimizer):
            continue
        state = optimizer.state[parameter]
        for name in _moments(optimizer):
            state[name] = torch.zeros_like(parameter)
        if OPTIMIZERS.index(type(optimizer)) != step.SGD:
            state["step"] = torch.zeros(())


class CompilationProgress(event.Listener):
    """Tells the user that the step is being compiled, and counts its functions; silent if that is not needed."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def on_start(self, event: event.Event) -> None:
        if self._bar is None:
            where = "once on this machine" if step.OPTIONS["cache"] else "at each start, as numba finds no cache folder"
            # A notebook colours stderr as errors.
            say(f"Compiling the step, {where}: about half a minute.", stderr=not in_notebook(), flush=True)
            self._bar = tqdm(desc="compiling", disable=None, bar_format="{desc}: {n_fmt} functions in {elapsed}")

    def on_end(self, event: event.Event) -> None:
        # numba's own functions are compiled as well.
        if self._bar is not None and event.data["dispatcher"].py_func.__module__ == step.__name__:
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def compile_step(dtype: torch.dtype) -> None:
    """Loads the step for float32 or float64 from numba's cache; if it isn't there, another process compiles it first.

    Compiled here, the linker would take functions that are not inlined from where they were compiled by themselves, and
    they sum in another order than those in the cached file: the first run of a machine would differ from all later ones
    by rounding.
    """
    if step.OPTIONS["cache"] and not _is_cached(dtype):
        name = str(dtype).removeprefix("torch.")
        code = (
            # Ctrl-C reaches this process, which ends that one.
            "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
            f"import torch; from gan_lab.training.compiled import engine; engine.compile_here(torch.{name})"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        # If that fails, this process compiles.
        subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    compile_here(dtype)


def compile_here(dtype: torch.dtype) -> None:
    """Compiles the step in this process, or loads it from numba's cache."""
    progress = CompilationProgress()
    event.register("numba:compile", progress)
    try:
        step.training_steps.compile(_argument_types(dtype))
    finally:
        event.unregister("numba:compile", progress)
        progress.close()


def _argument_types(dtype: torch.dtype) -> tuple[Any, ...]:
    """Returns numba's types of the arguments of `step.training_steps`."""
    arguments = _example(torch.empty(0, dtype=dtype).numpy().dtype)
    return tuple(numba.typeof(argument) for argument in arguments)


def _is_cached(dtype: torch.dtype) -> bool:
    """Loads the step from numba's cache; returns whether it was there."""
    refusal = _CompilationRefusal()
    event.register("numba:compile", refusal)
    try:
        step.training_steps.compile(_argument_types(dtype))
    except _NotCachedError:
        return False
    finally:
        event.unregister("numba:compile", refusal)
    return True


class _NotCachedError(Exception):
    """The step isn't in numba's cache."""


class _CompilationRefusal(event.Listener):
    """Stops numba when it begins to compile."""

    def on_start(self, event: event.Event) -> None:
        raise _NotCachedError

    def on_end(self, event: event.Event) -> None:
        pass


def _example(real: np.dtype[Any]) -> tuple[step.GAN, step.Block, np.ndarray[Any, Any]]:
    """Returns arguments of `step.training_steps` that have the right types, and no content."""
    no_int = np.zeros(0, np.int64)
    no_ints = np.zeros((0, 0), np.int64)
    no_real = np.zeros(0, real)
    no_reals = np.zeros((0, 0), real)
    network = step.Network(
        widths=no_int,
        stages=no_ints,
        constants=no_reals,
        parameters=no_ints,
        gradient=no_real,
        tape=np.zeros((0, 0, 0), real),
        inverse_stds=no_reals,
        penalised=no_int,
        row=no_real,
        bits=np.zeros(0, np.int32),
        optimizer=step.Optimizer(0, 0.0, 0.0, 0.0, 0.0, 0, 0.0, 0),
        curved=False,
        gemm=0,
    )
    recipe = step.Recipe(
        loss=0,
        real_target=1.0,
        probability=False,
        paired=False,
        joint=False,
        n_critic=1,
        n_generator=1,
        batch_size=0,
        lecam_weight=0.0,
        lecam_decay=0.0,
        lecam_warmup=0,
        lecam_calls=0,
        averaged=False,
    )
    scores = step.Scores(no_real, no_real, no_real, no_real)
    block = step.Block(
        real=np.zeros((0, 0, 0, 0), real),
        labels=np.zeros((0, 0, 0, 0), real),
        latents=np.zeros((0, 0, 0, 0, 0), real),
        noise=np.zeros((0, 0, 0, 0, 0), real),
        rates=np.zeros((0, 2)),
        gammas=np.zeros((0, 2)),
        average_decays=np.zeros(0),
        top=no_int,
        trained=np.zeros(0, np.bool_),
    )
    gan = step.GAN(recipe=recipe, d=network, g=network, scores=scores, lecam_means=no_reals)
    return gan, block, np.zeros((0, 0, 0), real)


def gemm_address(dtype: torch.dtype) -> int:
    """Returns the address of BLAS' matrix product for numbers of a type.

    That of torch's own library where it can be reached, which is a third faster for these sizes, else SciPy's.
    """
    name = "sgemm" if dtype == torch.float32 else "dgemm"
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if torch.backends.mkl.is_available() and library.is_file():
        function = getattr(ctypes.CDLL(str(library)), f"{name}_", None)
        if function is not None:
            return ctypes.cast(function, ctypes.c_void_p).value or 0
    return int(get_cython_function_address("scipy.linalg.cython_blas", name))

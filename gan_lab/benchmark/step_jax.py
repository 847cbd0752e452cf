"""The same step in JAX, a block of steps in one compiled function. Needs JAX, which is no dependency of gan_lab.

Covers the networks, the loss and the optimizer of the benchmark: linear layers with LeakyReLU and layer normalisation,
binary cross-entropy, Adam.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from omegaconf import DictConfig
from torch import nn

from gan_lab.assembly.instantiate import build_data_and_gan
from gan_lab.data.datamodule import MAX_BLOCK_STEPS
from gan_lab.training.compiled.coverage import layers_of

Tree = Any  # of arrays, as JAX differentiates and maps them
# JAX's fastest generator of random numbers.
GENERATOR = "rbg"


def time_jax(cfg: DictConfig, steps: int) -> float:
    """Times steps in blocks of up to `MAX_BLOCK_STEPS`, after one block that compiles them."""
    dataset, module = build_data_and_gan(cfg)
    data = dataset.train[torch.arange(len(dataset.train))].flatten(1).numpy()
    block_steps = next(size for size in range(MAX_BLOCK_STEPS, 0, -1) if steps % size == 0)
    d = _weights(module.discriminator)
    g = _weights(module.generator)
    state = (d, _zeros(d), _zeros(d), g, _zeros(g), _zeros(g), jnp.zeros((), jnp.float32))
    play_block = jax.jit(_block_function(cfg, module.latent_dim, dataset.bounded), donate_argnums=0)
    rng = np.random.default_rng(cfg.seed)
    key = jax.random.key(cfg.seed, impl=GENERATOR)

    def play(state: Tree, key: Any) -> tuple[Tree, Any]:
        real = data[rng.integers(0, len(data), (block_steps, cfg.batch_size))]
        state, key, losses = play_block(state, key, real)
        losses.block_until_ready()
        return state, key

    state, key = play(state, key)
    start = time.perf_counter()
    for _ in range(steps // block_steps):
        state, key = play(state, key)
    return time.perf_counter() - start


def _weights(network: nn.Module) -> list[dict[str, jax.Array]]:
    """Returns the parameters of each linear layer, and of the normalisation behind it."""
    stages: list[dict[str, jax.Array]] = []
    for layer in layers_of(network) or ():
        if isinstance(layer, nn.Linear):
            stages.append({"weight": jnp.asarray(layer.weight.detach().numpy().T), "bias": _array(layer.bias)})
        elif isinstance(layer, nn.LayerNorm):
            stages[-1] |= {"scale": _array(layer.weight), "shift": _array(layer.bias)}
    return stages


def _array(parameter: nn.Parameter) -> jax.Array:
    return jnp.asarray(parameter.detach().numpy())


def _zeros(tree: Tree) -> Tree:
    return jax.tree.map(jnp.zeros_like, tree)


def _block_function(cfg: DictConfig, latent_dim: int, bounded: bool) -> Any:
    """Returns a function that plays a block of steps: state, key, real samples `(S, B, d)` to state, key, losses."""
    slope = cfg.activation.negative_slope
    beta_1, beta_2 = cfg.optim.betas

    def network(stages: Tree, x: jax.Array) -> jax.Array:
        for stage in stages[:-1]:
            x = x @ stage["weight"] + stage["bias"]
            x = jnp.where(x > 0, x, slope * x)
            mean = x.mean(-1, keepdims=True)
            variance = jnp.square(x - mean).mean(-1, keepdims=True)
            x = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * stage["scale"] + stage["shift"]
        return x @ stages[-1]["weight"] + stages[-1]["bias"]

    def generate(g: Tree, z: jax.Array) -> jax.Array:
        x = network(g, z)
        return jax.nn.sigmoid(x) if bounded else x

    def real_loss(d: Tree, samples: jax.Array) -> jax.Array:
        return jax.nn.softplus(-network(d, samples)).mean()

    def fake_loss(d: Tree, samples: jax.Array) -> jax.Array:
        return jax.nn.softplus(network(d, samples)).mean()

    def generator_loss(g: Tree, d: Tree, z: jax.Array) -> jax.Array:
        return real_loss(d, generate(g, z))

    def adam(weights: Tree, gradients: Tree, mean: Tree, square: Tree, update: jax.Array) -> tuple[Tree, Tree, Tree]:
        mean = jax.tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, mean, gradients)
        square = jax.tree.map(lambda v, g: beta_2 * v + (1 - beta_2) * g * g, square, gradients)
        rate = cfg.optim.lr / (1 - beta_1**update)
        root = jax.lax.rsqrt(1 - beta_2**update)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) * root + 1e-8), weights, mean, square)
        return weights, mean, square

    def play_step(carry: tuple[Tree, Any], real: jax.Array) -> tuple[tuple[Tree, Any], jax.Array]:
        (d, d_mean, d_square, g, g_mean, g_square, step), key = carry
        key, key_z = jax.random.split(key)
        z = jax.random.normal(key_z, (2, cfg.batch_size, latent_dim))
        loss_real, gradients = jax.value_and_grad(real_loss)(d, real)
        d, d_mean, d_square = adam(d, gradients, d_mean, d_square, 2 * step + 1)
        loss_fake, gradients = jax.value_and_grad(fake_loss)(d, generate(g, z[0]))
        d, d_mean, d_square = adam(d, gradients, d_mean, d_square, 2 * step + 2)
        loss_g, gradients = jax.value_and_grad(generator_loss)(g, d, z[1])
        g, g_mean, g_square = adam(g, gradients, g_mean, g_square, step + 1)
        return ((d, d_mean, d_square, g, g_mean, g_square, step + 1), key), jnp.stack([loss_real, loss_fake, loss_g])

    def play_block(state: Tree, key: Any, real: jax.Array) -> tuple[Tree, Any, jax.Array]:
        (state, key), losses = jax.lax.scan(play_step, (state, key), real)
        return state, key, losses

    return play_block

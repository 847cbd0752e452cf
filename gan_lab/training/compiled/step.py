"""The step of a GAN with fully connected networks, compiled by numba: the same mathematics as `GANModule`, in loops.

Small networks spend most of a step on dispatching some two hundred operations. Here a step is one call, and each member
of K replicas is trained for a whole block of steps before the next one, so that its weights stay in the cache.

Everything is written for one member, in float32 or float64. A *stage* l of a network is a linear layer, an activation φ
and perhaps a layer normalisation:

    y = x Wᵀ + b        a = φ(y)        h = (a − mean a) ρ,  ρ = 1/√(var a + ε)        z = g h + c

and z (or a, where there is no normalisation) is the input x of stage l + 1. Rows are samples, columns are units. The
*adjoint* of a value is the derivative of what is minimised with respect to it.

The arrays of a module are passed by their addresses: its parameters, the optimizers' moments and the averages are
updated in place. Nothing here checks an argument: `gan_lab.training.compiled.engine` prepares them.
"""

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

Array = np.ndarray[Any, Any]

# The order of activations, losses and optimizers is that of `gan_lab.training.compiled.coverage`.
IDENTITY, LEAKY_RELU, SIGMOID, TANH, SILU = range(5)
MSE, BCE, SATURATING, LSGAN, HINGE, WASSERSTEIN, RELATIVISTIC, RELATIVISTIC_AVERAGE = range(8)
ADAM, ADAMW, SGD, RMSPROP = range(4)

# Columns of `Network.stages`: the activation, and the numbers of the parameters W, b, g and c
ACTIVATION, WEIGHT, BIAS, SCALE, SHIFT = range(5)
# Columns of `Network.constants`: LeakyReLU's slope, and the normalisation's ε, negative where there is none
NEGATIVE_SLOPE, EPSILON = range(2)

# Rows of `Network.parameters`: how many numbers a parameter of one member has, where it begins in the gradient, and the
# addresses of the parameter, the optimizer's moments, its moving average, and the mean of historical averaging. At an
# address the numbers of all members lie one after the other. The first moment is Adam's mean, RMSprop's mean square or
# SGD's momentum.
SIZE, START, VALUE, FIRST_MOMENT, SECOND_MOMENT, AVERAGE, PAST_MEAN = range(7)

# An exp(−x) for which tanh x is −1 in float64 as well, and whose square is finite in float32
SQUARABLE = 1e9

# What `Network.tape` stores at level 0, the network's input, and at level l + 1 of stage l: its sums and its output.
INPUT, DERIVATIVE, NORMALISED, ADJOINT = range(4)  # x, φ'(y), h, and the adjoint of x or, on the way, of a and y
# Only with a gradient penalty: φ''(y); the adjoints of D's scores with respect to x, a and y; the tangents of these.
CURVATURE, SCORE_X, SCORE_A, SCORE_Y, TANGENT_X, TANGENT_A, TANGENT_Y = range(4, 11)

# Columns of what is recorded of a step, in the order of `gan_lab.training.step_log.RECORDED`
LOSS_REAL, LOSS_FAKE, LOSS_G, ANSWER_REAL, ANSWER_FAKE = range(5)

# As `fastmath=True`, but NaN and infinity stay what they are, so that they are noticed.
FAST_MATH = {"reassoc", "contract", "arcp", "nsz"}


def has_cache() -> bool:
    """Tells whether numba finds a folder for compiled code: that of this file, the user's, or NUMBA_CACHE_DIR."""
    try:
        numba.njit(cache=True)(has_cache)
    except RuntimeError:
        return False
    return True


# Compiled code is kept on disk, and other threads run while it runs.
OPTIONS: dict[str, Any] = {
    "cache": has_cache(),
    "nogil": True,
    "error_model": "numpy",
    "fastmath": FAST_MATH,
}


class Optimizer(NamedTuple):
    """An optimizer's settings, and the number of updates before this block."""

    kind: int  # ADAM …
    beta_1: float  # or the momentum of SGD
    beta_2: float  # or alpha of RMSprop
    epsilon: float
    weight_decay: float
    updates: int
    history_weight: float  # of historical averaging; 0: none
    history_calls: int


class Network(NamedTuple):
    """D or G, with n stages and P parameters, for R rows of up to W columns."""

    widths: Array  # (n + 1,) columns of each level
    stages: Array  # (n, 5), see above
    constants: Array  # (n, 2), see above
    parameters: Array  # (7, P), see above
    gradient: Array  # (numbers in all parameters of a member,)
    tape: Array  # (4 or 11, n + 1, R · W), see above
    inverse_stds: Array  # (n, R) ρ
    penalised: Array  # (2,) the first row with a gradient penalty, and the one after the last
    row: Array  # (W,) scratch
    bits: Array  # (W,) int32 scratch
    optimizer: Optimizer
    curved: bool  # whether φ'' is needed: for a gradient penalty, where φ is not piecewise linear
    gemm: int  # address of BLAS' sgemm or dgemm


class Scores(NamedTuple):
    """D's scores of a batch, and their adjoints."""

    real: Array  # (B,)
    fake: Array  # (B,)
    real_adjoint: Array  # (B,)
    fake_adjoint: Array  # (B,)


class Recipe(NamedTuple):
    """What is trained how."""

    loss: int  # MSE …
    real_target: float  # of label smoothing; 1: none
    probability: bool  # whether D's answer is the sigmoid of its score
    paired: bool  # whether the loss compares real samples with fakes
    joint: bool
    n_critic: int
    n_generator: int
    batch_size: int  # B, D's rows
    lecam_weight: float
    lecam_decay: float
    lecam_warmup: int
    lecam_calls: int
    averaged: bool  # whether there is an average of G's weights


class GAN(NamedTuple):
    """Both networks, and how they are trained."""

    recipe: Recipe
    d: Network
    g: Network
    scores: Scores
    lecam_means: Array  # (K, 2) of D's scores on real samples and on fakes


class Block(NamedTuple):
    """The inputs of S steps for K members. m is the pack size, d the numbers in a sample."""

    real: Array  # (S · n_critic, K, B · m, d) real samples after the input transforms that are not packs
    labels: Array  # (S · n_critic, K, B, classes) one-hot
    latents: Array  # (S, n_critic + n_generator, K, B · m, latent_dim)
    noise: Array  # added to fakes, (S, n_critic + n_generator, K, B · m, d); d = 0: none
    rates: Array  # (S, 2) float64 learning rates of D and G
    gammas: Array  # (S, 2) float64 γ of R1 and R2; 0: none
    average_decays: Array  # (S,) float64 share of the old average of G's weights that is kept after each step
    top: Array  # (S,) G learns from so many samples of a batch
    trained: Array  # (K,) whether a member is trained


def kernel(function: Any) -> Any:
    """Compiles a function that other compiled functions call."""
    return numba.njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function: Any) -> Any:
    """Copies a function into the compiled functions that call it: faster to compile than as one of its own."""
    return numba.njit(**OPTIONS, inline="always")(function)


# Memory and BLAS


@intrinsic
def pointer(typing_context: Any, address: Any) -> Any:
    """Converts an address into a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@intrinsic
def call_gemm(typing_context, gemm, swap_a, swap_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):  # type: ignore[no-untyped-def]
    """Calls BLAS' gemm, whose arguments are all pointers, at an address.

    Called by its address, so that the compiled code can be kept on disk.
    """
    letter = types.uint8
    size = types.int64
    number = alpha
    signature = types.void(size, letter, letter, size, size, size, number, size, size, size, size, number, size, size)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function, swap_a, swap_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc = arguments

        def reference(value: Any) -> Any:
            return builder.bitcast(cgutils.alloca_once_value(builder, value), cgutils.voidptr_t)

        def integer(value: Any) -> Any:
            return reference(builder.trunc(value, ir.IntType(32)))

        def array(value: Any) -> Any:
            return builder.inttoptr(value, cgutils.voidptr_t)

        pointers = [reference(swap_a), reference(swap_b), integer(m), integer(n), integer(k), reference(alpha)]
        pointers += [array(a), integer(lda), array(b), integer(ldb), reference(beta), array(c), integer(ldc)]
        function_type = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t] * len(pointers))
        builder.call(builder.inttoptr(function, function_type.as_pointer()), pointers)
        return context.get_dummy_value()

    return signature, generate


# The letters of BLAS: as it lies in memory, and transposed.
AS_IT_IS = np.uint8(ord("N"))
TRANSPOSED = np.uint8(ord("T"))


@kernel
def product_transposed(gemm: int, a: Array, b: Array, c: Array) -> None:
    """Computes c = a bᵀ for a (m, k), b (n, k), c (m, n)."""
    # BLAS stores matrices by columns, so that it sees the transpose of each: cᵀ = b aᵀ.
    real = c.dtype.type
    m, n = c.shape
    k = a.shape[1]
    call_gemm(
        gemm, TRANSPOSED, AS_IT_IS, n, m, k, real(1), b.ctypes.data, k, a.ctypes.data, k, real(0), c.ctypes.data, n
    )


@kernel
def product(gemm: int, a: Array, b: Array, c: Array) -> None:
    """Computes c = a b for a (m, k), b (k, n), c (m, n)."""
    real = c.dtype.type
    m, n = c.shape
    k = a.shape[1]
    call_gemm(gemm, AS_IT_IS, AS_IT_IS, n, m, k, real(1), b.ctypes.data, n, a.ctypes.data, k, real(0), c.ctypes.data, n)


@kernel
def transposed_product(gemm: int, a: Array, b: Array, c: Array, old_share: float) -> None:
    """Computes c = aᵀ b + old_share · c for a (k, m), b (k, n), c (m, n)."""
    real = c.dtype.type
    m, n = c.shape
    k = a.shape[0]
    call_gemm(
        gemm,
        AS_IT_IS,
        TRANSPOSED,
        n,
        m,
        k,
        real(1),
        b.ctypes.data,
        n,
        a.ctypes.data,
        m,
        real(old_share),
        c.ctypes.data,
        n,
    )


@kernel
def rows_of(network: Network, what: int, level: int, start: int, rows: int) -> Array:
    """Returns some rows of what the tape stores at a level, `(rows, width)`."""
    width = network.widths[level]
    return network.tape[what, level, start * width : (start + rows) * width].reshape(rows, width)


@kernel
def numbers_of(network: Network, what: int, number: int, member: int) -> Array:
    """Returns a member's part of a parameter, or of what is kept beside it, `(size,)`."""
    gradient = network.gradient
    size = network.parameters[SIZE, number]
    address = network.parameters[what, number] + member * size * gradient.itemsize
    return carray(pointer(address), (size,), gradient.dtype)


@kernel
def vector_of(network: Network, stage: int, which: int, member: int) -> Array:
    """Returns the bias, scale or shift of a stage, `(width,)`."""
    return numbers_of(network, VALUE, network.stages[stage, which], member)


@kernel
def matrix_of(network: Network, stage: int, member: int) -> Array:
    """Returns the weight of a stage, `(width, width of its input)`."""
    return vector_of(network, stage, WEIGHT, member).reshape(network.widths[stage + 1], network.widths[stage])


@kernel
def gradient_of(network: Network, number: int) -> Array:
    """Returns where the gradient of a parameter is put, `(size,)`."""
    start = network.parameters[START, number]
    return network.gradient[start : start + network.parameters[SIZE, number]]


@kernel
def copy(source: Array, target: Array) -> None:
    """Copies a row; shorter to compile than an assignment to a slice, which also checks the lengths."""
    for j in range(len(source)):
        target[j] = source[j]


@kernel
def fill(target: Array, value: float) -> None:
    """Sets all numbers of a row to a value."""
    for j in range(len(target)):
        target[j] = value


# Activations


@kernel
def negative_exponentials(x: Array, result: Array, bits: Array) -> None:
    """Computes result = exp(−x) for each number of a row, up to exp(88) in float32."""
    if x.itemsize == 8:
        for j in range(len(x)):
            result[j] = math.exp(-x[j])
        return
    # The loops below are vectorised, which a call of the C library isn't. exp(x) = 2ⁿ exp(r) with |r| ≤ ln 2 / 2, and a
    # polynomial for exp(r) (Cephes, expf). 2ⁿ is a float whose exponent bits are n + 127.
    log2_e = np.float32(1.44269504088896341)
    ln_2_high = np.float32(0.693359375)
    ln_2_low = np.float32(-2.12194440e-4)
    half = np.float32(0.5)
    one = np.float32(1)
    for j in range(len(x)):
        t = -np.float32(x[j])
        t = np.float32(-87) if t < np.float32(-87) else t
        t = np.float32(88) if t > np.float32(88) else t
        n = np.int32(t * log2_e + (half if t > np.float32(0) else -half))
        count = np.float32(n)
        r = t - count * ln_2_high - count * ln_2_low
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + half
        result[j] = p * r * r + r + one
        bits[j] = (n + np.int32(127)) << np.int32(23)
    powers = bits.view(np.float32)
    for j in range(len(x)):
        result[j] *= powers[j]


@inlined
def activate(network: Network, stage: int, y: Array, bias: Array, a: Array) -> None:
    """Computes a = φ(y + b) for a row. Replaces y by φ'(y + b)."""
    kind = network.stages[stage, ACTIVATION]
    negative_slope = network.constants[stage, NEGATIVE_SLOPE]
    e = network.row
    real = y.dtype.type
    one = real(1)
    limit = real(SQUARABLE)
    width = len(y)
    if kind == LEAKY_RELU:
        for j in range(width):
            s = y[j] + bias[j]
            slope = one if s > 0 else negative_slope
            a[j] = slope * s
            y[j] = slope
        return
    for j in range(width):
        a[j] = y[j] + bias[j]
        y[j] = one
    if kind == IDENTITY:
        return
    negative_exponentials(a, e, network.bits)
    if kind == SIGMOID:
        for j in range(width):
            p = one / (one + e[j])
            a[j] = p
            y[j] = p * (one - p)
    elif kind == SILU:
        for j in range(width):
            p = one / (one + e[j])
            s = a[j]
            a[j] = s * p
            y[j] = p * (one + s * (one - p))
    else:
        for j in range(width):
            root = limit if e[j] > limit else e[j]
            square = root * root
            t = (one - square) / (one + square)
            a[j] = t
            y[j] = one - t * t


@inlined
def curve(network: Network, stage: int, y: Array, bias: Array, curvature: Array) -> None:
    """Computes the curvature φ''(y + b) for a row; y is left as it is."""
    kind = network.stages[stage, ACTIVATION]
    e = network.row
    real = y.dtype.type
    one = real(1)
    two = real(2)
    limit = real(SQUARABLE)
    width = len(y)
    for j in range(width):
        curvature[j] = y[j] + bias[j]
    if kind in (IDENTITY, LEAKY_RELU):
        fill(curvature, real(0))
        return
    negative_exponentials(curvature, e, network.bits)
    if kind == TANH:
        for j in range(width):
            root = limit if e[j] > limit else e[j]
            square = root * root
            t = (one - square) / (one + square)
            curvature[j] = -two * t * (one - t * t)
    elif kind == SIGMOID:
        for j in range(width):
            p = one / (one + e[j])
            curvature[j] = p * (one - p) * (one - two * p)
    else:
        for j in range(width):
            p = one / (one + e[j])
            curvature[j] = p * (one - p) * (two + curvature[j] * (one - two * p))


# Passes through a network


@kernel
def forward(network: Network, member: int, start: int, rows: int) -> None:
    """Computes the output of a network for some rows of its input, and stores what the other passes need."""
    for stage in range(len(network.stages)):
        level = stage + 1
        x = rows_of(network, INPUT, stage, start, rows)
        y = rows_of(network, DERIVATIVE, level, start, rows)
        z = rows_of(network, INPUT, level, start, rows)
        product_transposed(network.gemm, x, matrix_of(network, stage, member), y)
        bias = vector_of(network, stage, BIAS, member)
        if network.curved:
            curvature = rows_of(network, CURVATURE, level, start, rows)
            for r in range(rows):
                curve(network, stage, y[r], bias, curvature[r])
        for r in range(rows):
            activate(network, stage, y[r], bias, z[r])
        if network.constants[stage, EPSILON] >= 0:
            normalise(network, stage, member, start, rows)


@inlined
def normalise(network: Network, stage: int, member: int, start: int, rows: int) -> None:
    """Replaces the output a of a stage by z, its layer normalisation."""
    scale = vector_of(network, stage, SCALE, member)
    shift = vector_of(network, stage, SHIFT, member)
    epsilon = network.constants[stage, EPSILON]
    output = rows_of(network, INPUT, stage + 1, start, rows)
    normalised = rows_of(network, NORMALISED, stage + 1, start, rows)
    real = output.dtype.type
    width = len(scale)
    share = real(1) / real(width)
    for r in range(rows):
        z = output[r]
        h = normalised[r]
        mean = real(0)
        for j in range(width):
            mean += z[j]
        mean *= share
        variance = real(0)
        for j in range(width):
            difference = z[j] - mean
            variance += difference * difference
        rho = real(1) / np.sqrt(variance * share + epsilon)
        network.inverse_stds[stage, start + r] = rho
        for j in range(width):
            n = (z[j] - mean) * rho
            h[j] = n
            z[j] = n * scale[j] + shift[j]


@kernel
def backward(network: Network, member: int, start: int, rows: int, to_input: bool) -> None:
    """Goes from the adjoint of a network's output back to the gradients of its parameters, or to its input's adjoint.

    The rows `penalised` have a gradient penalty, for which `score_gradients` and `tangents` were called before. With a
    tangent v of x that is held constant, the derivative of vᵀ∇ₓD is that of the score's tangent Ḋ. The adjoints of the
    tangents are those of the score: both pass through the same linear maps. So the tangent ẋ of a stage's input adds
    δᵀẋ to the gradient of W, where δ is the adjoint of the score at y. The maps change with the values at which they
    are taken: φ'(y) by φ''(y), and the normalisation with h and ρ.

    Args:
        to_input: whether the adjoint of the input is computed, else the gradients of the parameters.
    """
    first = network.penalised[0]
    last = network.penalised[1]
    for stage in range(len(network.stages) - 1, -1, -1):
        level = stage + 1
        adjoint = rows_of(network, ADJOINT, level, start, rows)
        if network.constants[stage, EPSILON] >= 0:
            backward_through_norm(network, stage, member, start, rows, to_input)
        if network.stages[stage, ACTIVATION] != IDENTITY:
            multiply(adjoint, rows_of(network, DERIVATIVE, level, start, rows))
        if network.curved and last > first:
            add_curvature(network, level, first, last - first)
        if not to_input:
            add_rows(adjoint, gradient_of(network, network.stages[stage, BIAS]))
            x = rows_of(network, INPUT, stage, start, rows)
            gradient = gradient_of(network, network.stages[stage, WEIGHT]).reshape(adjoint.shape[1], x.shape[1])
            transposed_product(network.gemm, adjoint, x, gradient, 0.0)
            if last > first:
                score_adjoint = rows_of(network, SCORE_Y, level, first, last - first)
                tangent = rows_of(network, TANGENT_X, stage, first, last - first)
                transposed_product(network.gemm, score_adjoint, tangent, gradient, 1.0)
        if stage > 0 or to_input:
            below = rows_of(network, ADJOINT, stage, start, rows)
            product(network.gemm, adjoint, matrix_of(network, stage, member), below)


@kernel
def multiply(x: Array, factors: Array) -> None:
    """Multiplies each number by another one."""
    for r in range(len(x)):
        for j in range(x.shape[1]):
            x[r, j] *= factors[r, j]


@kernel
def add_rows(x: Array, result: Array) -> None:
    """Computes the sum of all rows."""
    fill(result, result.dtype.type(0))
    for r in range(len(x)):
        for j in range(len(result)):
            result[j] += x[r, j]


@inlined
def add_curvature(network: Network, level: int, start: int, rows: int) -> None:
    """Adds to the adjoint of y what it contributes to the tangent of a, φ'(y) ẏ."""
    adjoint = rows_of(network, ADJOINT, level, start, rows)
    curvature = rows_of(network, CURVATURE, level, start, rows)
    tangent = rows_of(network, TANGENT_Y, level, start, rows)
    score_adjoint = rows_of(network, SCORE_A, level, start, rows)
    for r in range(rows):
        for j in range(adjoint.shape[1]):
            adjoint[r, j] += curvature[r, j] * tangent[r, j] * score_adjoint[r, j]


@inlined
def backward_through_norm(network: Network, stage: int, member: int, start: int, rows: int, to_input: bool) -> None:
    """Replaces the adjoint of z by that of a, for some rows of a stage with layer normalisation."""
    scale = vector_of(network, stage, SCALE, member)
    scale_gradient = gradient_of(network, network.stages[stage, SCALE])
    shift_gradient = gradient_of(network, network.stages[stage, SHIFT])
    adjoint = rows_of(network, ADJOINT, stage + 1, start, rows)
    normalised = rows_of(network, NORMALISED, stage + 1, start, rows)
    if not to_input:
        add_rows(adjoint, shift_gradient)
        fill(scale_gradient, scale_gradient.dtype.type(0))
    for r in range(rows):
        e = adjoint[r]
        h = normalised[r]
        if not to_input:
            for j in range(len(e)):
                scale_gradient[j] += e[j] * h[j]
        for j in range(len(e)):
            e[j] *= scale[j]
        rho = network.inverse_stds[stage, start + r]
        rho_adjoint = e.dtype.type(0)
        if network.penalised[0] <= start + r < network.penalised[1]:
            rho_adjoint = add_tangent_of_norm(network, stage, start + r, scale, scale_gradient, h, rho, e)
        project(e, h, rho, rho_adjoint * rho)


@kernel
def project(v: Array, h: Array, rho: float, extra: float) -> None:
    """Replaces v by its product with the derivative ∂h/∂a of a layer normalisation, which is symmetric.

    Args:
        extra: adjoint of ρ times ρ; ρ depends on a as well, ∂ρ/∂a = −ρ² h / width.
    """
    real = v.dtype.type
    share = real(1) / real(len(v))
    mean = real(0)
    mean_product = extra
    for j in range(len(v)):
        mean += v[j]
        mean_product += v[j] * h[j]
    mean *= share
    mean_product *= share
    for j in range(len(v)):
        v[j] = rho * (v[j] - mean - h[j] * mean_product)


@inlined
def add_tangent_of_norm(
    network: Network, stage: int, row: int, scale: Array, scale_gradient: Array, h: Array, rho: float, e: Array
) -> float:
    """Adds what the tangent of a layer normalisation contributes to the gradient of g, and to the adjoint e of h.

    The tangent is ḣ = ρ q with q = ȧ − mean ȧ − h mean(h ȧ).

    Returns:
        The adjoint of ρ.
    """
    real = e.dtype.type
    share = real(1) / real(len(e))
    tangent = rows_of(network, TANGENT_A, stage + 1, row, 1)[0]
    score_adjoint = rows_of(network, SCORE_X, stage + 1, row, 1)[0]
    mean = real(0)
    mean_product = real(0)
    adjoint_product = real(0)
    for j in range(len(e)):
        mean += tangent[j]
        mean_product += tangent[j] * h[j]
        adjoint_product += score_adjoint[j] * scale[j] * h[j]
    mean *= share
    mean_product *= share
    adjoint_product *= share
    rho_adjoint = real(0)
    for j in range(len(e)):
        q = tangent[j] - mean - h[j] * mean_product
        h_adjoint = score_adjoint[j] * scale[j]
        scale_gradient[j] += score_adjoint[j] * rho * q
        rho_adjoint += h_adjoint * q
        e[j] -= rho * (h_adjoint * mean_product + adjoint_product * tangent[j])
    return rho_adjoint


@inlined
def score_gradients(network: Network, member: int) -> None:
    """Computes the gradient of D's score with respect to each penalised row, and stores the adjoints on the way."""
    first = network.penalised[0]
    rows = network.penalised[1] - first
    real = network.tape.dtype.type
    stages = len(network.stages)
    fill(rows_of(network, SCORE_X, stages, first, rows).reshape(-1), real(1))
    for stage in range(stages - 1, -1, -1):
        level = stage + 1
        z = rows_of(network, SCORE_X, level, first, rows)
        a = rows_of(network, SCORE_A, level, first, rows)
        y = rows_of(network, SCORE_Y, level, first, rows)
        copy(z.reshape(-1), a.reshape(-1))
        if network.constants[stage, EPSILON] >= 0:
            scale = vector_of(network, stage, SCALE, member)
            normalised = rows_of(network, NORMALISED, level, first, rows)
            for r in range(rows):
                for j in range(len(scale)):
                    a[r, j] *= scale[j]
                project(a[r], normalised[r], network.inverse_stds[stage, first + r], real(0))
        copy(a.reshape(-1), y.reshape(-1))
        multiply(y, rows_of(network, DERIVATIVE, level, first, rows))
        x = rows_of(network, SCORE_X, stage, first, rows)
        product(network.gemm, y, matrix_of(network, stage, member), x)


@inlined
def tangents(network: Network, member: int) -> None:
    """Computes the tangents of all stages for the penalised rows, along the tangent of the input."""
    first = network.penalised[0]
    rows = network.penalised[1] - first
    real = network.tape.dtype.type
    for stage in range(len(network.stages)):
        level = stage + 1
        x = rows_of(network, TANGENT_X, stage, first, rows)
        y = rows_of(network, TANGENT_Y, level, first, rows)
        a = rows_of(network, TANGENT_A, level, first, rows)
        z = rows_of(network, TANGENT_X, level, first, rows)
        product_transposed(network.gemm, x, matrix_of(network, stage, member), y)
        copy(y.reshape(-1), a.reshape(-1))
        multiply(a, rows_of(network, DERIVATIVE, level, first, rows))
        copy(a.reshape(-1), z.reshape(-1))
        if network.constants[stage, EPSILON] >= 0:
            scale = vector_of(network, stage, SCALE, member)
            normalised = rows_of(network, NORMALISED, level, first, rows)
            for r in range(rows):
                project(z[r], normalised[r], network.inverse_stds[stage, first + r], real(0))
                for j in range(len(scale)):
                    z[r, j] *= scale[j]


# Losses, see `gan_lab.gan.losses`. Values and derivatives are float64: there are only a few for each sample.


@kernel
def softplus(x: float) -> tuple[float, float]:
    """Returns ln(1 + eˣ) and its derivative σ(x), both as torch computes them."""
    if x > 20:
        return x, 1.0
    e = math.exp(x)
    return math.log1p(e), e / (1 + e)


@kernel
def sigmoid(x: float) -> float:
    """Returns σ(x)."""
    return 1 / (1 + math.exp(-x))


@kernel
def real_term(loss: int, score: float) -> tuple[float, float]:
    """Returns D's loss on a real sample and its derivative, for losses that score each sample by itself."""
    if loss == MSE:
        p = sigmoid(score)
        return (p - 1) ** 2, 2 * (p - 1) * p * (1 - p)
    if loss in (BCE, SATURATING):
        value, slope = softplus(-score)
        return value, -slope
    if loss == LSGAN:
        return (score - 1) ** 2 / 2, score - 1
    if loss == HINGE:
        if score < 1:
            return 1 - score, -1.0
        return score - score, 0.0  # 0, and NaN for a score that is NaN
    return -score, -1.0


@kernel
def fake_term(loss: int, score: float) -> tuple[float, float]:
    """Returns D's loss on a fake and its derivative."""
    if loss == MSE:
        p = sigmoid(score)
        return p**2, 2 * p * p * (1 - p)
    if loss in (BCE, SATURATING):
        return softplus(score)
    if loss == LSGAN:
        return score**2 / 2, score
    if loss == HINGE:
        if score > -1:
            return 1 + score, 1.0
        return score - score, 0.0
    return score, 1.0


@kernel
def generator_term(loss: int, score: float) -> tuple[float, float]:
    """Returns G's loss on a fake and its derivative."""
    if loss == SATURATING:
        value, slope = softplus(score)
        return -value, -slope
    if loss in (HINGE, WASSERSTEIN):
        return -score, -1.0
    return real_term(loss, score)


@inlined
def real_loss(recipe: Recipe, scores: Scores) -> float:
    """Returns D's mean loss on real samples, and sets the adjoints of their scores."""
    n = len(scores.real)
    target = recipe.real_target
    total = 0.0
    for i in range(n):
        score = np.float64(scores.real[i])
        value, slope = real_term(recipe.loss, score)
        if target != 1:
            other_value, other_slope = fake_term(recipe.loss, score)
            value = target * value + (1 - target) * other_value
            slope = target * slope + (1 - target) * other_slope
        total += value
        scores.real_adjoint[i] = slope / n
    return total / n


@inlined
def fake_loss(recipe: Recipe, scores: Scores) -> float:
    """Returns D's mean loss on fakes, and sets the adjoints of their scores."""
    n = len(scores.fake)
    total = 0.0
    for i in range(n):
        value, slope = fake_term(recipe.loss, np.float64(scores.fake[i]))
        total += value
        scores.fake_adjoint[i] = slope / n
    return total / n


@kernel
def average_terms(higher: Array, lower: Array, higher_adjoint: Array, lower_adjoint: Array) -> tuple[float, float]:
    """Computes both terms of the relativistic average loss, for scores that should be higher and lower.

    Returns:
        The means of softplus(mean lower − higher) and softplus(lower − mean higher).
    """
    n = len(higher)
    higher_mean = 0.0
    lower_mean = 0.0
    for i in range(n):
        higher_mean += higher[i] / n
        lower_mean += lower[i] / n
    higher_total = 0.0
    lower_total = 0.0
    higher_slopes = 0.0
    lower_slopes = 0.0
    for i in range(n):
        value, slope = softplus(lower_mean - higher[i])
        higher_total += value / n
        higher_slopes += slope / n
        value, slope = softplus(lower[i] - higher_mean)
        lower_total += value / n
        lower_slopes += slope / n
    for i in range(n):
        _, slope = softplus(lower_mean - higher[i])
        higher_adjoint[i] = (-slope - lower_slopes) / n
        _, slope = softplus(lower[i] - higher_mean)
        lower_adjoint[i] = (slope + higher_slopes) / n
    return higher_total, lower_total


@inlined
def paired_losses(recipe: Recipe, scores: Scores) -> tuple[float, float]:
    """Returns D's two mean losses where they compare real samples with fakes, and sets the adjoints of all scores."""
    if recipe.loss == RELATIVISTIC_AVERAGE:
        return average_terms(scores.real, scores.fake, scores.real_adjoint, scores.fake_adjoint)
    n = len(scores.real)
    total = 0.0
    for i in range(n):
        value, slope = softplus(np.float64(scores.fake[i]) - np.float64(scores.real[i]))
        total += value
        scores.real_adjoint[i] = -slope / n
        scores.fake_adjoint[i] = slope / n
    return total / n / 2, total / n / 2


@inlined
def select_highest(values: Array, best: Array) -> None:
    """Puts the places of the highest values into `best`, as many as that has, in their order in `values`."""
    found = 0
    for i in range(len(values)):
        higher = 0  # values that are higher, or equal and further to the front
        for j in range(len(values)):
            if values[j] > values[i] or (values[j] == values[i] and j < i):
                higher += 1
        # NaN compares with nothing, so that more values than there are places may seem to be among the highest.
        if higher < len(best) and found < len(best):
            best[found] = i
            found += 1


@inlined
def generator_loss(recipe: Recipe, scores: Scores, k: int) -> float:
    """Returns G's mean loss on the k fakes with the highest scores, and sets the adjoints of all fakes' scores."""
    n = len(scores.fake)
    fill(scores.fake_adjoint, scores.fake.dtype.type(0))
    best = np.arange(k)
    if k < n:
        select_highest(scores.fake, best)
    if recipe.loss == RELATIVISTIC_AVERAGE:
        # G's sum has the roles of real and fake exchanged.
        fake_adjoint = np.empty(k)
        real_adjoint = np.empty(k)
        fake_term, real_term = average_terms(scores.fake[best], scores.real[best], fake_adjoint, real_adjoint)
        for i in range(k):
            scores.fake_adjoint[best[i]] = fake_adjoint[i]
        return fake_term + real_term
    total = 0.0
    for place in range(k):
        i = best[place]
        score = np.float64(scores.fake[i])
        if recipe.loss == RELATIVISTIC:
            value, slope = softplus(np.float64(scores.real[i]) - score)
            slope = -slope
        else:
            value, slope = generator_term(recipe.loss, score)
        total += value
        scores.fake_adjoint[i] = slope / k
    return total / k


@kernel
def mean_answer(recipe: Recipe, scores: Array) -> float:
    """Returns the mean of D's answers for these scores."""
    total = 0.0
    for score in scores:
        total += sigmoid(np.float64(score)) if recipe.probability else np.float64(score)
    return total / len(scores)


# Remedies


@inlined
def add_lecam(gan: GAN, member: int, calls: int) -> None:
    """Adds LeCam's adjoints of D's scores, and moves its averages; see `gan_lab.gan.remedies.penalties.LeCam`."""
    recipe = gan.recipe
    scores = gan.scores
    n = len(scores.real)
    active = 1.0 if calls >= recipe.lecam_warmup else 0.0
    decay = recipe.lecam_decay * active
    means = gan.lecam_means[member]
    real = scores.real.dtype.type
    real_mean = 0.0
    fake_mean = 0.0
    for i in range(n):
        real_mean += scores.real[i] / n
        fake_mean += scores.fake[i] / n
    means[0] = real(decay * means[0] + (1 - decay) * real_mean)
    means[1] = real(decay * means[1] + (1 - decay) * fake_mean)
    factor = real(2 * recipe.lecam_weight * active / n)
    for i in range(n):
        scores.real_adjoint[i] += factor * max(scores.real[i] - means[1], real(0))
        scores.fake_adjoint[i] -= factor * max(means[0] - scores.fake[i], real(0))


@inlined
def penalise_gradients(gan: GAN, member: int, sample_width: int, gammas: Array) -> None:
    """Computes, for R1 and R2, the gradients g of D's scores, and the tangents along γ/B · g.

    The derivative of γ/2 · |g|² is that of γ gᵀg with the first g held constant.

    Args:
        sample_width: numbers in a row of D's input without the label, for which there is no penalty.
        gammas: (2,) those of R1 and R2.
    """
    b = gan.recipe.batch_size
    first = 0 if gammas[0] > 0 else b
    last = 2 * b if gammas[1] > 0 else b
    gan.d.penalised[0] = first
    gan.d.penalised[1] = last
    score_gradients(gan.d, member)
    g = rows_of(gan.d, SCORE_X, 0, first, last - first)
    tangent = rows_of(gan.d, TANGENT_X, 0, first, last - first)
    real = g.dtype.type
    for r in range(last - first):
        gamma = gammas[0] if first + r < b else gammas[1]
        factor = real(gamma / b)
        for j in range(g.shape[1]):
            tangent[r, j] = factor * g[r, j] if j < sample_width else real(0)
    tangents(gan.d, member)


# Optimizers


@kernel
def optimize(network: Network, member: int, rate: float, done: int) -> None:
    """Updates all parameters of a member with their gradients.

    Args:
        rate: learning rate.
        done: updates in this block so far.
    """
    optimizer = network.optimizer
    for number in range(network.parameters.shape[1]):
        w = numbers_of(network, VALUE, number, member)
        gradient = gradient_of(network, number)
        if optimizer.history_weight > 0:
            past_mean = numbers_of(network, PAST_MEAN, number, member)
            add_history(optimizer, w, gradient, past_mean, optimizer.history_calls + done + 1)
        if optimizer.weight_decay > 0 and optimizer.kind == ADAMW:
            add_multiple(-rate * optimizer.weight_decay, w, w)
        elif optimizer.weight_decay > 0:
            add_multiple(optimizer.weight_decay, w, gradient)
        if optimizer.kind in (ADAM, ADAMW):
            m = numbers_of(network, FIRST_MOMENT, number, member)
            v = numbers_of(network, SECOND_MOMENT, number, member)
            adam(optimizer, w, gradient, m, v, rate, optimizer.updates + done + 1)
        elif optimizer.kind == RMSPROP:
            rmsprop(optimizer, w, gradient, numbers_of(network, FIRST_MOMENT, number, member), rate)
        elif optimizer.beta_1 > 0:
            momentum = numbers_of(network, FIRST_MOMENT, number, member)
            for j in range(len(w)):
                momentum[j] = w.dtype.type(optimizer.beta_1) * momentum[j] + gradient[j]
            add_multiple(-rate, momentum, w)
        else:
            add_multiple(-rate, gradient, w)


@kernel
def add_multiple(factor: float, x: Array, result: Array) -> None:
    """Adds factor · x to a vector."""
    factor = result.dtype.type(factor)
    for j in range(len(result)):
        result[j] += factor * x[j]


@inlined
def add_history(optimizer: Optimizer, w: Array, gradient: Array, past_mean: Array, calls: int) -> None:
    """Includes the weights in the mean of their past, and adds the gradient of weight · |w − mean|²."""
    real = w.dtype.type
    share = real(1 / calls)
    factor = real(2 * optimizer.history_weight)
    for j in range(len(w)):
        past_mean[j] += (w[j] - past_mean[j]) * share
        gradient[j] += factor * (w[j] - past_mean[j])


@inlined
def adam(optimizer: Optimizer, w: Array, gradient: Array, m: Array, v: Array, rate: float, update: int) -> None:
    """Updates weights as Adam does (Kingma & Ba 2015, algorithm 1); `update` is counted from 1."""
    real = w.dtype.type
    epsilon = real(optimizer.epsilon)
    beta_1 = real(optimizer.beta_1)
    beta_2 = real(optimizer.beta_2)
    new_1 = real(1 - optimizer.beta_1)
    new_2 = real(1 - optimizer.beta_2)
    step = real(rate / (1 - optimizer.beta_1**update))
    root = real(1 / math.sqrt(1 - optimizer.beta_2**update))
    for j in range(len(w)):
        g = gradient[j]
        m[j] = beta_1 * m[j] + new_1 * g
        v[j] = beta_2 * v[j] + new_2 * g * g
        w[j] -= step * m[j] / (np.sqrt(v[j]) * root + epsilon)


@inlined
def rmsprop(optimizer: Optimizer, w: Array, gradient: Array, v: Array, rate: float) -> None:
    """Updates weights as RMSprop does (Hinton 2012), without momentum."""
    real = w.dtype.type
    lr = real(rate)
    epsilon = real(optimizer.epsilon)
    alpha = real(optimizer.beta_2)
    new = real(1 - optimizer.beta_2)
    for j in range(len(w)):
        g = gradient[j]
        v[j] = alpha * v[j] + new * g * g
        w[j] -= lr * g / (np.sqrt(v[j]) + epsilon)


@inlined
def average(network: Network, member: int, decay: float) -> None:
    """Includes the present weights in their exponential moving average."""
    share = network.gradient.dtype.type(1 - decay)
    for i in range(network.parameters.shape[1]):
        w = numbers_of(network, VALUE, i, member)
        mean = numbers_of(network, AVERAGE, i, member)
        for j in range(len(w)):
            mean[j] += share * (w[j] - mean[j])


# The step


@kernel
def put_samples(gan: GAN, samples: Array, noise: Array, labels: Array, start: int) -> None:
    """Puts samples, packed, with noise and labels, into rows of D's input from `start` on.

    Args:
        samples: (B · m, d).
        noise: the same shape, or of length 0 for no noise.
        labels: (B, classes).
    """
    samples = samples.reshape(-1)
    noise = noise.reshape(-1)
    inputs = rows_of(gan.d, INPUT, 0, start, gan.recipe.batch_size)
    width = len(samples) // gan.recipe.batch_size
    for r in range(len(inputs)):
        for j in range(width):
            inputs[r, j] = samples[r * width + j]
        if len(noise) > 0:
            for j in range(width):
                inputs[r, j] += noise[r * width + j]
        for j in range(width, inputs.shape[1]):
            inputs[r, j] = labels[r, j - width]


@inlined
def put_fakes(gan: GAN, member: int, latents: Array, noise: Array, labels: Array) -> None:
    """Makes samples with G and puts them into D's input, behind the real ones."""
    # A literal 0 would have another type, and everything called with it would be compiled twice.
    first_row = np.int64(0)
    copy(latents.reshape(-1), gan.g.tape[INPUT, 0])
    forward(gan.g, member, first_row, len(latents))
    samples = rows_of(gan.g, INPUT, len(gan.g.stages), first_row, len(latents))
    put_samples(gan, samples, noise, labels, gan.recipe.batch_size)


@inlined
def score_rows(gan: GAN, member: int, start: int, rows: int) -> None:
    """Lets D score rows of its input: real samples are in rows 0 … B − 1, fakes in B … 2B − 1."""
    forward(gan.d, member, start, rows)
    b = gan.recipe.batch_size
    output = gan.d.tape[INPUT, len(gan.d.stages)]
    if start == 0:
        copy(output[:b], gan.scores.real)
    if start + rows > b:
        copy(output[b : 2 * b], gan.scores.fake)


@inlined
def learn_d(gan: GAN, member: int, start: int, rows: int, rate: float, done: int) -> None:
    """Takes one step of D's optimizer, from the adjoints of its scores."""
    output = gan.d.tape[ADJOINT, len(gan.d.stages)]
    copy(gan.scores.real_adjoint, output)
    copy(gan.scores.fake_adjoint, output[gan.recipe.batch_size :])
    backward(gan.d, member, start, rows, np.bool_(False))
    optimize(gan.d, member, rate, done)


@inlined
def update_d(gan: GAN, block: Block, t: int, turn: int, member: int) -> tuple[float, float]:
    """Phases 1 and 2: D learns to tell real samples from fakes. Returns its losses on real samples and on fakes."""
    recipe = gan.recipe
    b = recipe.batch_size
    number = t * recipe.n_critic + turn
    labels = block.labels[number, member]
    rate = block.rates[t, 0]
    # A literal 0 would have another type, and everything called with it would be compiled twice.
    first_row = np.int64(0)

    # Phase 1: D scores real samples.
    real = block.real[number, member]
    put_samples(gan, real, real[:0], labels, first_row)
    if not recipe.joint:
        score_rows(gan, member, first_row, b)
        loss_real = real_loss(recipe, gan.scores)
        learn_d(gan, member, first_row, b, rate, 2 * number)

    # Phase 2: D scores fakes. No gradient reaches G.
    put_fakes(gan, member, block.latents[t, turn, member], block.noise[t, turn, member], labels)
    if not recipe.joint:
        score_rows(gan, member, b, b)
        loss_fake = fake_loss(recipe, gan.scores)
        learn_d(gan, member, b, b, rate, 2 * number + 1)
        return loss_real, loss_fake
    score_rows(gan, member, first_row, 2 * b)
    if recipe.paired:
        loss_real, loss_fake = paired_losses(recipe, gan.scores)
    else:
        loss_real = real_loss(recipe, gan.scores)
        loss_fake = fake_loss(recipe, gan.scores)
    if recipe.lecam_weight > 0:
        add_lecam(gan, member, recipe.lecam_calls + number)
    gammas = block.gammas[t]
    if gammas[0] > 0 or gammas[1] > 0:
        penalise_gradients(gan, member, len(real) * real.shape[1] // b, gammas)
    learn_d(gan, member, first_row, 2 * b, rate, number)
    fill(gan.d.penalised, 0)
    return loss_real, loss_fake


@inlined
def update_g(gan: GAN, block: Block, t: int, turn: int, member: int) -> float:
    """Phase 3: D, frozen, scores fresh fakes; the gradient passes through D. Returns G's loss."""
    recipe = gan.recipe
    b = recipe.batch_size
    labels = block.labels[(t + 1) * recipe.n_critic - 1, member]
    batch = recipe.n_critic + turn
    latents = block.latents[t, batch, member]
    put_fakes(gan, member, latents, block.noise[t, batch, member], labels)
    # Only losses that compare both need the scores of real samples.
    score_rows(gan, member, 0 if recipe.paired else b, 2 * b if recipe.paired else b)
    loss = generator_loss(recipe, gan.scores, block.top[t])
    copy(gan.scores.fake_adjoint, gan.d.tape[ADJOINT, len(gan.d.stages), b:])
    backward(gan.d, member, b, b, np.bool_(True))
    d_adjoint = rows_of(gan.d, ADJOINT, 0, b, b)
    g_adjoint = gan.g.tape[ADJOINT, len(gan.g.stages)]
    width = len(latents) * gan.g.widths[len(gan.g.stages)] // b
    for r in range(b):
        copy(d_adjoint[r, :width], g_adjoint[r * width :])
    backward(gan.g, member, np.int64(0), len(latents), np.bool_(False))
    optimize(gan.g, member, block.rates[t, 1], t * recipe.n_generator + turn)
    return loss


@numba.njit(**OPTIONS)
def training_steps(gan: GAN, block: Block, record: Array) -> None:
    """Trains each member for all steps of a block, in the three phases of `GANModule.training_step`.

    Args:
        record: (S, 5, K), set to the losses and answers of each step; 0 for members that are not trained.
    """
    recipe = gan.recipe
    for member in range(len(block.trained)):
        for t in range(len(record)):
            if not block.trained[member]:
                fill(record[t, :, member], record.dtype.type(0))
                continue
            for turn in range(recipe.n_critic):
                loss_real, loss_fake = update_d(gan, block, t, turn, member)
            record[t, LOSS_REAL, member] = loss_real
            record[t, LOSS_FAKE, member] = loss_fake
            record[t, ANSWER_REAL, member] = mean_answer(recipe, gan.scores.real)
            record[t, ANSWER_FAKE, member] = mean_answer(recipe, gan.scores.fake)
            for turn in range(recipe.n_generator):
                record[t, LOSS_G, member] = update_g(gan, block, t, turn, member)
            if recipe.averaged:
                average(gan.g, member, block.average_decays[t])

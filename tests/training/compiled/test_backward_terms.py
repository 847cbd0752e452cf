"""A wrong sign in any one term of the compiled step's derivatives and updates shows in its losses or averages."""

import functools

import pytest
import torch
from both_engines import Trained, train
from interpreted import SOURCE, interpreted

from gan_lab.training.compiled import engine

# Played by the interpreter: as little as possible. A large learning rate shows a wrong gradient within a few steps.
SMALL = "dataset=ring dataset.samples=300 model.width=4 batch_size=4 latent_dim=2 optim=sgd optim.lr=0.1"
STEPS = 4
# Fair for float64, and three orders below the smallest effect of a wrong sign.
BOUND = 1e-10

R1 = "remedy=[r1] norm=none"
NORM = "norm=layer"
# Two hidden layers in D, so that something is behind the tangent of a normalisation.
DEEP = "remedy=[r1,r2] norm=layer model.depth=2"
SMOOTH = f"{DEEP} activation=tanh"
LECAM = "remedy=[lecam] remedy.lecam.warmup_steps=1 remedy.lecam.weight=3"
HISTORY = "remedy=[historical_averaging]"
SMOOTHING = "loss=bce remedy=[label_smoothing]"
AVERAGE = "loss=relativistic_average"
ADAM = "optim=adam optim.lr=0.01"
ADAMW = "optim=adamw optim.lr=0.01 optim.weight_decay=0.5"
RMSPROP = "optim=rmsprop optim.lr=0.01"
MOMENTUM = "optim=sgd optim.momentum=0.9"

# What stands in the source, what is put in its place, and overrides for a GAN that has the term.
MUTATIONS = [
    # Derivatives of activations
    ("y[j] = slope", "y[j] = -slope", ""),
    ("            y[j] = p * (one - p)\n", "            y[j] = -p * (one - p)\n", "activation=sigmoid"),
    ("y[j] = p * (one + s * (one - p))", "y[j] = -p * (one + s * (one - p))", "activation=silu"),
    ("y[j] = p * (one + s * (one - p))", "y[j] = p * (one - s * (one - p))", "activation=silu"),
    ("y[j] = one - t * t", "y[j] = t * t - one", "activation=tanh"),
    ("y[j] = one - t * t", "y[j] = one + t * t", "activation=tanh"),
    # Second derivatives
    ("curvature[j] = -two * t * (one - t * t)", "curvature[j] = two * t * (one - t * t)", f"{R1} activation=tanh"),
    ("p * (one - p) * (one - two * p)", "p * (one - p) * (two * p - one)", f"{R1} activation=sigmoid"),
    ("p * (one - p) * (two + curvature[j]", "p * (one - p) * (-two + curvature[j]", f"{R1} activation=silu"),
    ("* (two + curvature[j] * (one - two * p))", "* (two - curvature[j] * (one - two * p))", f"{R1} activation=silu"),
    # From the scores back through the layers
    (
        "add_rows(adjoint, gradient_of(network, network.stages[stage, BIAS]))",
        "add_rows(-adjoint, gradient_of(network, network.stages[stage, BIAS]))",
        "",
    ),
    (
        "transposed_product(network.gemm, adjoint, x, gradient, 0.0)",
        "transposed_product(network.gemm, -adjoint, x, gradient, 0.0)",
        "",
    ),
    (
        "product(network.gemm, adjoint, matrix_of(network, stage, member), below)",
        "product(network.gemm, -adjoint, matrix_of(network, stage, member), below)",
        "",
    ),
    ("copy(d_adjoint[r, :width], g_adjoint[r * width :])", "copy(-d_adjoint[r, :width], g_adjoint[r * width :])", ""),
    ("copy(gan.scores.real_adjoint, output)", "copy(-gan.scores.real_adjoint, output)", ""),
    (
        "copy(gan.scores.fake_adjoint, output[gan.recipe.batch_size :])",
        "copy(-gan.scores.fake_adjoint, output[gan.recipe.batch_size :])",
        "",
    ),
    (
        "copy(gan.scores.fake_adjoint, gan.d.tape[ADJOINT, len(gan.d.stages), b:])",
        "copy(-gan.scores.fake_adjoint, gan.d.tape[ADJOINT, len(gan.d.stages), b:])",
        "",
    ),
    # Layer normalisation
    ("add_rows(adjoint, shift_gradient)", "add_rows(-adjoint, shift_gradient)", NORM),
    ("scale_gradient[j] += e[j] * h[j]", "scale_gradient[j] -= e[j] * h[j]", NORM),
    ("            e[j] *= scale[j]", "            e[j] *= -scale[j]", NORM),
    ("        mean += v[j]\n", "        mean -= v[j]\n", NORM),
    ("mean_product += v[j] * h[j]", "mean_product -= v[j] * h[j]", NORM),
    ("v[j] = rho * (v[j] - mean - h[j] * mean_product)", "v[j] = rho * (-v[j] - mean - h[j] * mean_product)", NORM),
    # The gradient of D's score, and the tangents along it
    (
        "                    a[r, j] *= scale[j]\n",
        "                    a[r, j] *= -scale[j]\n",
        DEEP,
    ),
    (
        "multiply(y, rows_of(network, DERIVATIVE, level, first, rows))",
        "multiply(y, -rows_of(network, DERIVATIVE, level, first, rows))",
        R1,
    ),
    (
        "product(network.gemm, y, matrix_of(network, stage, member), x)",
        "product(network.gemm, -y, matrix_of(network, stage, member), x)",
        R1,
    ),
    (
        "multiply(a, rows_of(network, DERIVATIVE, level, first, rows))",
        "multiply(a, -rows_of(network, DERIVATIVE, level, first, rows))",
        R1,
    ),
    (
        "product_transposed(network.gemm, x, matrix_of(network, stage, member), y)\n        copy(",
        "product_transposed(network.gemm, -x, matrix_of(network, stage, member), y)\n        copy(",
        R1,
    ),
    ("                    z[r, j] *= scale[j]", "                    z[r, j] *= -scale[j]", DEEP),
    ("factor = real(gamma / b)", "factor = real(-gamma / b)", R1),
    ("gamma = recipe.r1 if", "gamma = -recipe.r1 if", DEEP),
    ("first + r < b else recipe.r2", "first + r < b else -recipe.r2", DEEP),
    (
        "transposed_product(network.gemm, score_adjoint, tangent, gradient, 1.0)",
        "transposed_product(network.gemm, -score_adjoint, tangent, gradient, 1.0)",
        R1,
    ),
    (
        "adjoint[r, j] += curvature[r, j] * tangent[r, j] * score_adjoint[r, j]",
        "adjoint[r, j] -= curvature[r, j] * tangent[r, j] * score_adjoint[r, j]",
        f"{R1} activation=tanh",
    ),
    # What the tangent of a normalisation contributes
    ("        mean += tangent[j]\n", "        mean -= tangent[j]\n", SMOOTH),
    ("mean_product += tangent[j] * h[j]", "mean_product -= tangent[j] * h[j]", DEEP),
    (
        "adjoint_product += score_adjoint[j] * scale[j] * h[j]",
        "adjoint_product -= score_adjoint[j] * scale[j] * h[j]",
        DEEP,
    ),
    ("q = tangent[j] - mean", "q = -tangent[j] - mean", DEEP),
    ("h_adjoint = score_adjoint[j] * scale[j]", "h_adjoint = -score_adjoint[j] * scale[j]", DEEP),
    ("scale_gradient[j] += score_adjoint[j] * rho * q", "scale_gradient[j] -= score_adjoint[j] * rho * q", DEEP),
    ("rho_adjoint += h_adjoint * q", "rho_adjoint -= h_adjoint * q", DEEP),
    ("e[j] -= rho * (h_adjoint * mean_product", "e[j] -= rho * (-h_adjoint * mean_product", DEEP),
    ("+ adjoint_product * tangent[j])", "- adjoint_product * tangent[j])", DEEP),
    ("project(e, h, rho, rho_adjoint * rho)", "project(e, h, rho, -rho_adjoint * rho)", DEEP),
    # Losses
    ("return math.log1p(e), e / (1 + e)", "return math.log1p(e), -e / (1 + e)", "loss=bce"),
    ("return x, 1.0", "return x, -1.0", "loss=bce optim.lr=300"),
    ("2 * (p - 1) * p * (1 - p)", "-2 * (p - 1) * p * (1 - p)", "loss=mse"),
    ("value, slope = softplus(-score)\n        return value, -slope", "return softplus(-score)", "loss=bce"),
    ("(score - 1) ** 2 / 2, score - 1", "(score - 1) ** 2 / 2, 1 - score", "loss=lsgan"),
    ("return 1 - score, -1.0", "return 1 - score, 1.0", "loss=hinge"),
    (
        "return -score, -1.0\n\n\n@kernel\ndef fake_term",
        "return -score, 1.0\n\n\n@kernel\ndef fake_term",
        "loss=wasserstein",
    ),
    ("return p**2, 2 * p", "return p**2, -2 * p", "loss=mse"),
    ("        return softplus(score)\n", "        return softplus(score)[0], -softplus(score)[1]\n", "loss=bce"),
    ("return score**2 / 2, score", "return score**2 / 2, -score", "loss=lsgan"),
    ("return 1 + score, 1.0", "return 1 + score, -1.0", "loss=hinge"),
    ("    return score, 1.0\n", "    return score, -1.0\n", "loss=wasserstein"),
    ("return -value, -slope", "return -value, slope", "loss=saturating"),
    (
        "return -score, -1.0\n    return real_term(loss, score)",
        "return -score, 1.0\n    return real_term(loss, score)",
        "loss=hinge",
    ),
    ("slope = target * slope", "slope = -target * slope", SMOOTHING),
    ("+ (1 - target) * other_slope", "- (1 - target) * other_slope", SMOOTHING),
    ("scores.real_adjoint[i] = slope / n", "scores.real_adjoint[i] = -slope / n", ""),
    (
        "scores.fake_adjoint[i] = slope / n\n    return total / n\n",
        "scores.fake_adjoint[i] = -slope / n\n    return total / n\n",
        "",
    ),
    ("(-slope - lower_slopes) / n", "(slope - lower_slopes) / n", AVERAGE),
    ("(-slope - lower_slopes) / n", "(-slope + lower_slopes) / n", AVERAGE),
    ("(slope + higher_slopes) / n", "(-slope + higher_slopes) / n", AVERAGE),
    ("(slope + higher_slopes) / n", "(slope - higher_slopes) / n", AVERAGE),
    ("scores.fake_adjoint[best[i]] = fake_adjoint[i]", "scores.fake_adjoint[best[i]] = -fake_adjoint[i]", AVERAGE),
    ("scores.real_adjoint[i] = -slope / n", "scores.real_adjoint[i] = slope / n", "loss=relativistic"),
    (
        "scores.fake_adjoint[i] = slope / n\n    return total / n / 2",
        "scores.fake_adjoint[i] = -slope / n\n    return total / n / 2",
        "loss=relativistic",
    ),
    ("            slope = -slope\n", "            slope = slope\n", "loss=relativistic"),
    ("scores.fake_adjoint[i] = slope / k", "scores.fake_adjoint[i] = -slope / k", ""),
    # Remedies
    ("scores.real_adjoint[i] += factor", "scores.real_adjoint[i] -= factor", LECAM),
    ("scores.fake_adjoint[i] -= factor", "scores.fake_adjoint[i] += factor", LECAM),
    ("real(decay * means[0]", "real(-decay * means[0]", LECAM),
    ("real(decay * means[1]", "real(-decay * means[1]", LECAM),
    ("+ (1 - decay) * real_mean", "- (1 - decay) * real_mean", LECAM),
    ("+ (1 - decay) * fake_mean", "- (1 - decay) * fake_mean", LECAM),
    ("past_mean[j] += (w[j]", "past_mean[j] -= (w[j]", HISTORY),
    ("gradient[j] += factor * (w[j] - past_mean[j])", "gradient[j] -= factor * (w[j] - past_mean[j])", HISTORY),
    ("mean[j] += share * (w[j] - mean[j])", "mean[j] -= share * (w[j] - mean[j])", "remedy=[ema]"),
    # Optimizers
    (
        "add_multiple(-rate * optimizer.weight_decay, w, w)",
        "add_multiple(rate * optimizer.weight_decay, w, w)",
        ADAMW,
    ),
    (
        "add_multiple(optimizer.weight_decay, w, gradient)",
        "add_multiple(-optimizer.weight_decay, w, gradient)",
        f"{ADAM} optim.weight_decay=0.1",
    ),
    ("m[j] = beta_1 * m[j]", "m[j] = -beta_1 * m[j]", ADAM),
    ("+ new_1 * g", "- new_1 * g", ADAM),
    ("v[j] = beta_2 * v[j] + new_2 * g * g", "v[j] = abs(-beta_2 * v[j] + new_2 * g * g)", ADAM),
    ("w[j] -= step * m[j]", "w[j] += step * m[j]", ADAM),
    ("v[j] = alpha * v[j] + new * g * g", "v[j] = abs(-alpha * v[j] + new * g * g)", RMSPROP),
    ("w[j] -= lr * g / ", "w[j] += lr * g / ", RMSPROP),
    ("w.dtype.type(optimizer.beta_1) * momentum[j]", "-w.dtype.type(optimizer.beta_1) * momentum[j]", MOMENTUM),
    ("momentum[j] + gradient[j]", "momentum[j] - gradient[j]", MOMENTUM),
    ("add_multiple(-rate, momentum, w)", "add_multiple(rate, momentum, w)", MOMENTUM),
    ("add_multiple(-rate, gradient, w)", "add_multiple(rate, gradient, w)", ""),
]


@functools.cache
def _reference(overrides: str) -> Trained:
    return train(overrides.split(), "autograd", torch.float64, STEPS)


def _agrees(source: str, overrides: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tells whether the compiled step, interpreted, trains a GAN as autograd does."""
    overrides = f"{SMALL} {overrides}"
    monkeypatch.setattr(engine, "step", interpreted(source))
    trained = train(overrides.split(), "compiled", torch.float64, STEPS)
    reference = _reference(overrides)
    state = dict(trained.state())
    pairs = [(trained.values, reference.values)] + [(state[name], tensor) for name, tensor in reference.state()]
    return all(torch.allclose(ours, expected, rtol=BOUND, atol=BOUND) for ours, expected in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", sorted({overrides for _, _, overrides in MUTATIONS}))
def test_the_step_as_it_is_agrees_with_autograd(overrides, monkeypatch):
    assert _agrees(SOURCE, overrides, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "overrides"), MUTATIONS)
def test_a_wrong_sign_is_noticed(old, new, overrides, monkeypatch):
    assert SOURCE.count(old) == 1, "the source has changed, and with it what this test has to replace"
    assert not _agrees(SOURCE.replace(old, new), overrides, monkeypatch)

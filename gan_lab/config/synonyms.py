"""Names that people type who know other programs, and what to say instead."""

_STEPS = "A training is counted in steps, each on one batch: steps=3000. (An epoch is all samples once.)"
_ITERATIONS = "Say steps=3000."
_RATE = "It belongs to the optimiser: optim.lr=0.001 for both networks, optim_g=adam optim_g.lr=0.001 for G."
_RATE_OF_D = "Say optim_d=adam optim_d.lr=0.001."
_RATE_OF_G = "Say optim_g=adam optim_g.lr=0.001."
_BETAS = "Say optim.betas=[0.5,0.999]."
_BATCH = "Say batch_size=64."
_GPU = "Say trainer=gpu."
_LATENT = "Say latent_dim=64."
_SEED = "Say seed=1."
_WIDTH = "Say model.width=256 for both networks, model.generator.width=256 for G."
_DEPTH = "Say model.depth=2 for both networks, model.generator.depth=2 for G."
_FOLDER = "Runs are written below outputs/. Say name=<folder> for another one there."
_PRECISION = "Say trainer.precision=bf16-mixed."

# By name of a key.
KEYS = {
    **dict.fromkeys(("epoch", "epochs", "num_epochs", "n_epochs", "max_epochs"), _STEPS),
    **dict.fromkeys(
        ("iters", "iterations", "n_iter", "num_iterations", "max_iter", "max_steps", "num_steps", "n_steps"),
        _ITERATIONS,
    ),
    **dict.fromkeys(("lr", "learning_rate", "optim_lr"), _RATE),
    **dict.fromkeys(("lr_d", "d_lr", "lr_discriminator"), _RATE_OF_D),
    **dict.fromkeys(("lr_g", "g_lr", "lr_generator"), _RATE_OF_G),
    **dict.fromkeys(("beta1", "beta_1", "b1", "betas"), _BETAS),
    **dict.fromkeys(("batch", "bs", "batchsize"), _BATCH),
    **dict.fromkeys(("gpu", "gpus", "cuda", "device", "accelerator"), _GPU),
    **dict.fromkeys(("z_dim", "zdim", "nz", "noise_dim", "latent_size", "n_latent"), _LATENT),
    **dict.fromkeys(("random_seed", "manual_seed", "random_state"), _SEED),
    **dict.fromkeys(("hidden", "hidden_size", "hidden_dim", "width", "units"), _WIDTH),
    **dict.fromkeys(("depth", "layers", "n_layers", "num_layers"), _DEPTH),
    **dict.fromkeys(("output", "output_dir", "outdir", "out", "save_dir", "log_dir", "logdir"), _FOLDER),
    **dict.fromkeys(("precision", "fp16", "amp", "bf16"), _PRECISION),
    **dict.fromkeys(("optimizer", "optimiser", "opt"), "Say optim=adam."),
    **dict.fromkeys(("num_workers", "n_workers", "nworkers"), "Say workers=2."),
    **dict.fromkeys(("ema", "use_ema"), "It is a remedy: remedy=[ema]."),
    **dict.fromkeys(("gp", "lambda_gp", "gradient_penalty"), "It is a remedy: remedy=[wgan_gp], or remedy=[r1]."),
    **dict.fromkeys(("n_dis", "d_steps"), "Say n_critic=5."),
    **dict.fromkeys(("negative_slope", "slope", "leaky"), "Say activation.negative_slope=0.2."),
    **dict.fromkeys(("checkpoint", "ckpt", "load", "restore"), "To continue a run, say resume=<run folder>."),
}

# By option, `group=option`.
OPTIONS = {
    **dict.fromkeys(("loss=wgan", "loss=w"), "Say loss=wasserstein."),
    **dict.fromkeys(("loss=wgan_gp", "loss=wgan-gp", "loss=wgangp"), "Say loss=wasserstein remedy=[wgan_gp]."),
    **dict.fromkeys(("loss=gan", "loss=vanilla", "loss=ns", "loss=nsgan", "loss=logistic"), "Say loss=bce."),
    **dict.fromkeys(("loss=minimax", "loss=mm"), "Say loss=saturating."),
    **dict.fromkeys(("loss=l2", "loss=least_squares", "loss=ls"), "Say loss=mse, or loss=lsgan for unbounded scores."),
    **dict.fromkeys(("loss=rgan", "loss=rpgan", "loss=rsgan"), "Say loss=relativistic."),
    **dict.fromkeys(("loss=ragan",), "Say loss=relativistic_average."),
    **dict.fromkeys(("norm=layernorm", "norm=layer_norm", "norm=ln"), "Say norm=layer."),
    **dict.fromkeys(("norm=batchnorm", "norm=batch_norm", "norm=bn"), "Say norm=batch."),
    **dict.fromkeys(("norm=sn", "norm=spectral_norm"), "Say norm=spectral."),
    **dict.fromkeys(("activation=lrelu", "activation=leakyrelu"), "Say activation=leaky_relu."),
    **dict.fromkeys(("activation=swish",), "Say activation=silu."),
    **dict.fromkeys(("trainer=cuda", "trainer=gpus"), _GPU),
    **dict.fromkeys(("dataset=cifar", "dataset=cifar-10"), "Say dataset=cifar10."),
    **dict.fromkeys(("dataset=fashion", "dataset=fashionmnist"), "Say dataset=fashion_mnist."),
    **dict.fromkeys(("dataset=folder", "dataset=custom", "dataset=imagefolder"), "Pack them, then dataset=images."),
}


def advice(text: str) -> str:
    """Returns what to say instead of a key or of `group=option`; "" for a name that isn't known.

    Args:
        text: in any case.
    """
    name = text.lower()
    return KEYS.get(name) or OPTIONS.get(name) or ""


def advice_on_word(word: str) -> str:
    """Returns what to say instead of a word without `=`, which may stand for a key or for a group's option; or ""."""
    for name, text in OPTIONS.items():
        if name.partition("=")[2] == word.lower():
            return text
    return advice(word)

"""Generators and discriminators.

A generator turns latent vectors `(B, latent_dim)` into samples `(B, *shape)`, a discriminator turns samples into raw
scores `(B,)`, without a sigmoid. K networks of one architecture become one network for `(K, B, …)` with
`gan_lab.gan.networks.replicated.Replicated`.
"""

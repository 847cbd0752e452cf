"""Numbers that say how a GAN does: tensors and numbers in, numbers out."""

"""What is shown and stored while a GAN trains. Callbacks use the module only through `sample`, `step` and its log."""

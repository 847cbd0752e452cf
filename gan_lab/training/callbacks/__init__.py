"""What is shown and kept while a GAN trains. Each sees the module through `sample()`, `step` and what it logged."""

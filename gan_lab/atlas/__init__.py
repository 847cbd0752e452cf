"""The atlas: what every remedy did to every GAN that fails, with enough seeds. docs/atlas.md has its design."""

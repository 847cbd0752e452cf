"""Generators and discriminators. All take a leading batch axis; discriminators give raw scores without a sigmoid."""

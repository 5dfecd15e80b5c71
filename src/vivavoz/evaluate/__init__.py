"""How good a model is: its VAE's pictures, its generator's lips, and a report of both."""

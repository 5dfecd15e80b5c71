"""A corpus as the generator is trained on it: the VAE's latents of every clip, encoded once."""

"""The latent generator: a rectified-flow transformer that writes latent frames block by block."""

"""The reference-guided deep-compression video VAE: encoder, reference fusion, decoder, reference warp."""

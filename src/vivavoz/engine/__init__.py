"""The engine: a model, its weights, avatars, and the streams that animate them."""

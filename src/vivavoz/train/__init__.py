"""Training: data while it is rendered, losses, loops, checkpoints, recipes."""

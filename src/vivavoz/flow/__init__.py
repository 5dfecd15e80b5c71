"""Rectified flow as pure functions: path, noise draws, time schedule, guidance, sampler. The model is a callable here."""

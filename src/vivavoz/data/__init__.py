"""Corpora: portraits that a rig animates, speech that drives them, and what both are prepared from."""

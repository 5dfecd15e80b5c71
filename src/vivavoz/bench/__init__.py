"""How fast a model is on this machine, what of the machine it uses, and whether it became slower."""

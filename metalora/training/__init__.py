"""Training an adapted model: objective, loop, checkpoints; and pretraining of the bundled backbones."""

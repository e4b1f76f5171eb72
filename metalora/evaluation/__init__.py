"""How well embeddings do and whether a difference is real: k-NN, statistics over seeds, tables."""

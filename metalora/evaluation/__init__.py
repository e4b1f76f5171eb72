"""Measuring a trained model: embeddings, k-NN, accuracy."""

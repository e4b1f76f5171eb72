"""The adapters of given images: their cores, strengths and neighbours in a gallery, and embeddings on a plane."""

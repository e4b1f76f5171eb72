"""Adapted models: backbones, extractors, the mapping net, adapting, folding, saving and loading."""

"""The method of the paper: formats of updates, adapted layers, generated cores, and their settings."""

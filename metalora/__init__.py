"""MetaLoRA."""

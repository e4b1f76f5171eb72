"""Runs: trainings in folders of their own, executed, queued, estimated; and the workspace of an app."""

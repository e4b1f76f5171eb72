"""Suites: sets of tasks over one label space, with their training, validation, gallery and query images."""

from metalora.suites.load import FIXED_TASKS, SUITES, load_suite
from metalora.suites.suite import Batch, Examples, Suite

__all__ = ["FIXED_TASKS", "SUITES", "Batch", "Examples", "Suite", "load_suite"]

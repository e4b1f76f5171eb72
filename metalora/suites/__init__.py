"""Suites: sets of tasks over one label space, with their training, validation, gallery and query images."""

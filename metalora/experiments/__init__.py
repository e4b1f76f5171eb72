"""Comparisons: variants, jobs, statistics, tables, studies, and the benchmark."""

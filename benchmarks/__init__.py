"""Benchmarks: `python -m benchmarks`. Ours and its peers in one process, in turn, results checked equal first."""

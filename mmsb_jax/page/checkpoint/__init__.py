"""States on disk beside the log, from which a replay can begin: whole, or sharing parts with others."""

__all__: list[str] = []

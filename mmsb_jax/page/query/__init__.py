"""Finding and reading rows of a log without reading the rest; a log that grows; statistics; Arrow streams."""

__all__: list[str] = []

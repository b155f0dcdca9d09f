"""What a log knows of the past: replay, the state at any moment, differences, writers, forks, compaction."""

__all__: list[str] = []

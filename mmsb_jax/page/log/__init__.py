"""The transaction log: storage, frames, recovery, indexes, codecs. The one writer is `TransactionLog`."""

__all__: list[str] = []

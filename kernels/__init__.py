"""Array kernels, each with its plain XLA reference; a backend's own version is chosen only where measured faster."""

from ._gather_fold import fold_terms, gather_fold, rounded, take_rows

__all__ = ["fold_terms", "gather_fold", "rounded", "take_rows"]

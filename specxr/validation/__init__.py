"""Labels judged: against other labels, and against known ones."""

from specxr.validation.comparison import compare, match, robust_scatter
from specxr.validation.recovery import recovery_table

__all__ = ["compare", "match", "recovery_table", "robust_scatter"]

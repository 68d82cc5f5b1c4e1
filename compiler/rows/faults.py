"""The error for values that cannot be computed by loops over rows."""


class NoRowsError(Exception):
    """No row program computes these values, for the given reason; they run as PyTorch operations."""

"""What cannot be written as loops on rows."""


class NoRowsError(Exception):
    """Values that no program on rows computes, with the reason; a torch program does."""

"""The statistic table."""

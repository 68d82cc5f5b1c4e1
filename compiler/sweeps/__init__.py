"""Sweeps: the statistics of a table, and the gradients of its streams, as programs of torch operations on blocks of rows."""

from lossc.compiler.sweeps.forward import statistic_stages
from lossc.compiler.sweeps.gradient import gradient_sweeps
from lossc.compiler.sweeps.model import Contribution, GradientSweep, Stage, Sweep, coefficient
from lossc.compiler.sweeps.shards import (
    ShardStage,
    StageTables,
    gradient_table,
    place,
    shard,
    shard_stages,
    stage_tables,
    top,
)

__all__ = [
    "Contribution",
    "GradientSweep",
    "ShardStage",
    "Stage",
    "StageTables",
    "Sweep",
    "coefficient",
    "gradient_sweeps",
    "gradient_table",
    "place",
    "shard",
    "shard_stages",
    "stage_tables",
    "statistic_stages",
    "top",
]

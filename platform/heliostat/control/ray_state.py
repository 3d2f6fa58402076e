"""The readers of a Ray cluster's state over HTTP, in one place. Each takes a `RayApi` and returns records.

An answer of an older or newer Ray, with fields that are missing or unknown, is read as far as it goes; the
only errors are ClusterError and, for a cluster that may answer later, Unreachable.
"""

from heliostat.control.demand import Demand, read_demand, refuse_impossible
from heliostat.control.driver_log import read_driver_log_tail
from heliostat.control.holders import Holder, who_holds
from heliostat.control.node_types import NodeType
from heliostat.control.nodes import GpuState, Node, read_nodes
from heliostat.control.serve_state import ServeState, read_serve

__all__ = [
    "Demand",
    "GpuState",
    "Holder",
    "Node",
    "NodeType",
    "ServeState",
    "read_demand",
    "read_driver_log_tail",
    "read_nodes",
    "read_serve",
    "refuse_impossible",
    "who_holds",
]

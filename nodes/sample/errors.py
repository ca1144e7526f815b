"""Errors of the sample data.

NodeError
└── SampleError    arguments from which no sample table can be made
"""

from nodes.errors import NodeError


class SampleError(NodeError):
    """The sample table cannot be made as asked."""

    code = "node.sample"

"""Everything that may cross between a department and anybody else.

Messages, their canonical bytes, their signatures and seals, and the numbers both
sides agree on. This package does no input or output: it turns values into bytes and
bytes into checked values. What is not defined here does not leave a node.
"""

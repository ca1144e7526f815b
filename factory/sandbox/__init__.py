"""The sandbox in which a developer's code works on what was granted to it, and from which nothing is copied out."""

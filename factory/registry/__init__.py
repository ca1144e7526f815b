"""The registry: requests, grants, products and their states, with every act in a hash chain."""

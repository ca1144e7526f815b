"""The department's trust domain: the agent that runs granted tasks beside the data."""

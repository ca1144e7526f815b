"""The agent: takes parcels, decides, runs tasks beside the data, answers."""

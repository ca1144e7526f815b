"""The steps of the offline verifier, each over what the step before has established."""

"""The operator's side of serving: clients and keys, the gateway, fingerprints, feedback, alerts."""

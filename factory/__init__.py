"""The operator's trust domain: pipelines, registry, review, registration and release."""

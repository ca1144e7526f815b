"""The platform over HTTP: OpenAPI, problem details, and the same services that the command line calls."""

"""The implementing agency's side: TLS authority, trust data, rulings on requests, and its service."""

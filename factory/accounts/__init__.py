"""Who is who on the platform: organisations, accounts, their credentials and sessions."""

"""Sample tables for trials: registers with valid codes and listed errors, and real tables split over departments."""

"""The law as data: requirements, clauses, jurisdiction profiles and clocks."""

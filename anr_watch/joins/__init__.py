"""Joins exact to the frame: coded pictures of the recorder found again in a replay. Knows no av, no database."""

"""Settings by machine and site, as package data."""

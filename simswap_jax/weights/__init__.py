"""How weights rest and travel."""

"""Recipes for small models on two CPU cores."""

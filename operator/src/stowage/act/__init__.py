"""Actions against the API server: one function for each, safe to repeat."""

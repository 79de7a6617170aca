"""Pure: what a resource of Stowage may not say, beyond what its schema and its CEL rules hold."""

"""Pure: what a PackingPolicy or a PackingPlan may not say, beyond what its schema and its CEL rules hold."""

"""An inference engine without a model, and clients for it: what serving is tested with where there is no GPU."""

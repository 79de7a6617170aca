"""Kubernetes objects to facts, and the matching rules of kube-scheduler over those facts."""

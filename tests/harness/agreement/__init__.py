"""Whether Stowage and an unmodified kube-scheduler agree where a pod may go (docs/design/agreement.md)."""

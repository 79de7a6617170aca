"""The process shell: work queue, leader lease, solver workers, health, metrics, settings, logs."""

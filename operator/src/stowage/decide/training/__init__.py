"""Decisions about TrainingJobs: detection, recovery, children, status. All pure."""

"""Decides how many replicas a served model needs: pure functions over what was measured."""

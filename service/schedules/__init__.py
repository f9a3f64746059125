"""Schedules: the actions that tools call, and the views of the answers."""

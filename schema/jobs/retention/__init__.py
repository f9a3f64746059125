"""Retention: what is deleted when its time is over, and what stays of it."""

"""Diagnosis of failed jobs: cause, evidence and remedy, from message, exit code and log."""

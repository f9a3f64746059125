"""Specifications of jobs: one validated request for each kind of job."""

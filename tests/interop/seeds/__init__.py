"""The systems that Holdfast is compared with, run for real beside it."""

"""Fakes of the Hub, its Spaces and its log streams."""

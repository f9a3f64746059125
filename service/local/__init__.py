"""Holdfast on one machine: servers from wheels, a stand-in Hub, and their supervisor."""

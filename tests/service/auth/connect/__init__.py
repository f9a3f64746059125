"""Tests of connecting accounts."""

"""Tests of the bridge on standard input and output."""

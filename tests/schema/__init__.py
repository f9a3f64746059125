"""Tests of the ground both processes stand on."""

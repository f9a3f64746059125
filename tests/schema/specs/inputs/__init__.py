"""Tests of schema/specs/inputs."""

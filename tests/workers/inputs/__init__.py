"""Tests of workers/inputs."""

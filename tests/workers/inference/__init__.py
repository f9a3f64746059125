"""Tests of workers/inference."""

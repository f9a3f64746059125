"""Tests of service/runtime."""

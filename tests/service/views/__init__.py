"""Tests of service/views."""

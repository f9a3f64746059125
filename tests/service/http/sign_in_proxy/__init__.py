"""Tests of the sign-in proxy."""

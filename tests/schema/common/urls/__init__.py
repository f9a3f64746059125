"""Tests of schema/common/urls."""

"""Tests of schema/db/backup."""

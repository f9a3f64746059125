"""Prices, budgets, and what jobs hold and cost."""

"""The official conformance suite, run against our service and our middleware."""

"""The official conformance suite, against our service and against our edge around its tools."""

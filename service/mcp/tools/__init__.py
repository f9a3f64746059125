"""The tools: one module for each thing a caller wants, one function for each tool."""

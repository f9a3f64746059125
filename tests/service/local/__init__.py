"""What the stack on one machine promises."""

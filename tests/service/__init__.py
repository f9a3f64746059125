"""What `service` promises."""

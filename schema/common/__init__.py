"""Small pieces without a domain: errors, ids, durations, timestamps, money, logging."""

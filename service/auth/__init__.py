"""Who is calling: a token is shown to the Hub, and what it says is believed for a minute."""

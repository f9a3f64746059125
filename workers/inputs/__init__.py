"""Files that an attempt reads: from URLs and from the Hub."""

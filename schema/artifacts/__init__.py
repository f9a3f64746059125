"""What a job leaves behind: its log and its files."""

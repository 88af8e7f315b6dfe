"""What the pages say of each experiment: its text with tables, and its figure."""

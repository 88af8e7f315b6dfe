"""What docs/results.md says of each experiment: its text with tables, and its figure."""

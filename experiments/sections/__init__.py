"""The sections of docs/results.md: text, tables and figure of each experiment."""

"""The paper's questions, asked again: its trials, a runner, the archive of their numbers, and pages."""

"""The paper's questions, asked again: what runs there are, a runner, a maker of tables and figures."""

"""Records, tables, the page, and the paper's tables run again."""

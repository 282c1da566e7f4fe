"""Reports of records: one page without a network, and Markdown."""

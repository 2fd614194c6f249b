"""The report of evaluations: what their rows say, in tables, figures and words."""

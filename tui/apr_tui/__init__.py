"""Terminal screens of APR."""

"""Ways to write threads that know no task."""

"""An engine that plays recorded text: what tests and examples run on without a model."""

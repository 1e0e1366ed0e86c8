"""What is done to a relay under load: one module for each kind of fault, each with SCENARIOS."""

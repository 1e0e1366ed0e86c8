"""`pyfastpath top`: a live screen of one relay, for 80 × 24 characters and up."""

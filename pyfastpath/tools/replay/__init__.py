"""`pyfastpath replay`: a capture of real calls as a load test with a verdict on every datagram."""

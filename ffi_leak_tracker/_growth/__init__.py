"""Growth from call to call, or from sample to sample."""

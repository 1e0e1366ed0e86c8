"""The agents that come with Fastpath, and how others are found (`catalogue`)."""
